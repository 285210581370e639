// One task of the backward scan: each tile is run forward again from its saved state, then swept in reverse.
#pragma once

#include "scan_common.hpp"

namespace cfm {

// A running sum that keeps what single precision drops: totals over L tokens stay exact to the last tile.
struct Sum {
    V total{}, rest{};
    CFM_INLINE void add(Sum& sum, V x) {
        V y = x - sum.rest;
        V t = sum.total + y;
        sum.rest = (t - sum.total) - y;
        sum.total = t;
    }
};

template <int N>
struct alignas(64) BackwardScratch {
    float A[CHUNK_BLOCKS][N][W];       // A log2 e
    float carry[CHUNK_BLOCKS][N][W];   // gradient of the state after the tile
    Sum dA[CHUNK_BLOCKS][N], dD[CHUNK_BLOCKS], dbias[CHUNK_BLOCKS];
    float B[T][N], C[T][N];
    float dB[T][N][W], dC[T][N][W];    // summed over the blocks, lanes apart
    float h[T + 1][PASS][W], decay[T][PASS][W];
    Tile u, delta, z, dy_in, dy, dt, slope, dtu, y, ddt, ddtu, du, ddelta, dz;
};

// What the passes over a block read and write besides the scratch.
struct Rows {
    const float *u[T], *delta[T], *dy[T], *z[T];
    float *du[T], *ddelta[T], *dz[T];
    int64_t next_u, next_delta, next_dy, next_z, next_du, next_ddelta, next_dz;
    V skip, bias;
    V dD, dbias;  // sums over the tile
};

// Runs P states forward over the tile, keeping them, and adds dC (and y where the gate needs it).
template <int N, int P, int FIRST, bool GATED>
CFM_INLINE void replay(int tokens, BackwardScratch<N>& w, int block, const float* saved, const Rows& rows) {
    const float *A = w.A[block][FIRST], *B = w.B[0] + FIRST, *C = w.C[0] + FIRST;
    float *dC = w.dC[0][FIRST], *h_out = w.h[0][0], *decay_out = w.decay[0][0];
    V a[P], h[P];
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        a[n] = load(A + n * W);
        h[n] = load(saved + (FIRST + n) * W);
        store(h_out + n * W, h[n]);
    }
    for (int i = 0; i < tokens; ++i, B += N, C += N, dC += N * W, decay_out += PASS * W) {
        const V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]), dy = load(w.dy.at[i]);
        prefetch(rows.u[i], rows.next_u);
        prefetch(rows.delta[i], rows.next_delta);
        V y = GATED ? load(w.y.at[i]) : V{};
        h_out += PASS * W;
#pragma GCC unroll 8
        for (int n = 0; n < P; ++n) {
            const V decay = exp2_product(dt, a[n]);
            h[n] = decay * h[n] + dtu * B[n];
            store(decay_out + n * W, decay);
            store(h_out + n * W, h[n]);
            store(dC + n * W, load(dC + n * W) + dy * h[n]);
            if (GATED) y += h[n] * C[n];
        }
        if (GATED) store(w.y.at[i], y);
    }
}

// Sweeps P states back over the tile; the last pass has the gradients of u and delta.
template <int N, int P, int FIRST>
CFM_INLINE void sweep(int tokens, BackwardScratch<N>& w, int block, Rows& rows) {
    const float *A = w.A[block][FIRST];
    V carry[P], dA[P];
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        carry[n] = load(w.carry[block][FIRST + n]);
        dA[n] = V{};
    }
    for (int i = tokens - 1; i >= 0; --i) {
        const float *B = w.B[i] + FIRST, *C = w.C[i] + FIRST, *decay = w.decay[i][0], *h = w.h[i][0];
        float* dB = w.dB[i][FIRST];
        const V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]), dy = load(w.dy.at[i]);
        prefetch(rows.dy[i], rows.next_dy);
        prefetch(rows.du[i], rows.next_du);
        prefetch(rows.ddelta[i], rows.next_ddelta);
        V ddtu = FIRST ? load(w.ddtu.at[i]) : V{}, ddt = FIRST ? load(w.ddt.at[i]) : V{};
#pragma GCC unroll 8
        for (int n = 0; n < P; ++n) {
            const V g = dy * C[n] + carry[n];
            store(dB + n * W, load(dB + n * W) + dtu * g);
            ddtu += g * B[n];
            carry[n] = g * load(decay + n * W);
            const V gx = carry[n] * load(h + n * W);  // gradient of dt A
            dA[n] += gx * dt;
            ddt += gx * load(A + n * W);
        }
        if (FIRST + P < N) {
            store(w.ddtu.at[i], ddtu);
            store(w.ddt.at[i], ddt);
        } else {
            const V u = load(rows.u[i]), ddelta = (ddtu * u + ddt * LN2) * load(w.slope.at[i]);
            store(rows.du[i], ddtu * dt + rows.skip * dy);
            store(rows.ddelta[i], ddelta);
            rows.dD += dy * u;
            rows.dbias += ddelta;
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        store(w.carry[block][FIRST + n], carry[n]);
        Sum::add(w.dA[block][FIRST + n], dA[n]);
    }
}

struct Task {
    Slice slice;
    int64_t k;
    float *dA, *dD, *dbias;  // this batch item's own totals, (D, N) and (D) of weight set s, direction k
    float *dB, *dC;          // sums over the channels
    CfmStateStrides dBs, dCs;
    bool add;                // to what the chunks before have put into dB and dC
};

template <int N>
struct Backward {
    const CfmScan& p;
    const Cut& cut;
    const Task& task;
    BackwardScratch<N>& w;
    int64_t s = task.slice.s, b = task.slice.b, k = task.k, skb = (s * p.K + k) * p.B + b;
    const int64_t* order = p.order ? p.order + k * p.L : nullptr;

    void begin() {
        for (int64_t j = task.slice.block_begin; j < task.slice.block_end; ++j) {
            const Block block(cut, task.slice.g, j);
            const int local = static_cast<int>(j - task.slice.block_begin);
            const float* A = p.A + ((s * p.K + k) * p.D + block.channel) * N;
            const float* last = p.dlast_state ? p.dlast_state + (skb * p.D + block.channel) * N : nullptr;
            for (int n = 0; n < N; ++n) {
                store(w.A[local][n], load_channels(A + n, N, block.channels) * LOG2E);
                store(w.carry[local][n], last ? load_channels(last + n, N, block.channels) : V{});
                w.dA[local][n] = Sum{};
            }
            w.dD[local] = w.dbias[local] = Sum{};
        }
    }

    void end() {
        for (int64_t j = task.slice.block_begin; j < task.slice.block_end; ++j) {
            const Block block(cut, task.slice.g, j);
            const int local = static_cast<int>(j - task.slice.block_begin);
            for (int n = 0; n < N; ++n)
                store_channels(task.dA + block.channel * N + n, N, block.channels, w.dA[local][n].total);
            store_channels(task.dD + block.channel, 1, block.channels, w.dD[local].total);
            store_channels(task.dbias + block.channel, 1, block.channels, w.dbias[local].total);
        }
    }

    void tile(int64_t index) {
        const int64_t first = index * T;
        const int tokens = static_cast<int>(std::min<int64_t>(T, p.L - first));
        read_states<N>(p.Bm + at(p.Bs, s, k, b, task.slice.g), p.Bs, first, tokens, w.B);
        read_states<N>(p.Cm + at(p.Cs, s, k, b, task.slice.g), p.Cs, first, tokens, w.C);
        std::memset(w.dB, 0, tokens * sizeof(w.dB[0]));
        std::memset(w.dC, 0, tokens * sizeof(w.dC[0]));
        for (int64_t j = task.slice.block_begin; j < task.slice.block_end; ++j)
            block_tile(Block(cut, task.slice.g, j), j, index, first, tokens);
        reduce(w.dB, task.dB, task.dBs, first, tokens);
        reduce(w.dC, task.dC, task.dCs, first, tokens);
    }

    void reduce(const float (*lanes)[N][W], float* out, const CfmStateStrides& t, int64_t first, int tokens) {
        const float(*flat)[W] = lanes[0];
        alignas(64) float sums[T * N];
        for (int i = 0; i < tokens * N; i += W) {
            V v[W];
#pragma GCC unroll 16
            for (int j = 0; j < W; ++j) v[j] = load(flat[i + j]);
            store(sums + i, sum_each(v));
        }
        for (int i = 0; i < tokens; ++i)
            for (int n = 0; n < N; ++n) {
                float& to = out[(first + i) * t.l + n * t.n];
                to = task.add ? to + sums[i * N + n] : sums[i * N + n];
            }
    }

    // dt and its slope, dt u, and dy as the state sees it.
    void prepare(int tokens, const Rows& rows) {
        if (p.softplus)
            for (int i = 0; i < tokens; ++i) {
                const V v = load(rows.delta[i]) + rows.bias, e = exp_minus_abs(v), r = reciprocal(1.0f + e);
                store(w.dt.at[i], vmax(splat(0.0f), v) + log1p_unit(e));
                store(w.slope.at[i], v < 0.0f ? e * r : r);
            }
        else
            for (int i = 0; i < tokens; ++i) {
                store(w.dt.at[i], load(rows.delta[i]) + rows.bias);
                store(w.slope.at[i], splat(1.0f));
            }
        for (int i = 0; i < tokens; ++i) {
            store(w.dtu.at[i], load(w.dt.at[i]) * load(rows.u[i]));
            store(w.dy.at[i], load(rows.dy[i]));
        }
        if (!p.z) return;
        for (int i = 0; i < tokens; ++i) {
            prefetch(rows.z[i], rows.next_z);
            prefetch(rows.dz[i], rows.next_dz);
            const V z = load(rows.z[i]), gate = sigmoid(z), dy = load(w.dy.at[i]);
            store(rows.dz[i], dy * gate * (1.0f + z * (1.0f - gate)));  // times y, once that is known
            store(w.dy.at[i], dy * z * gate);
            store(w.y.at[i], rows.skip * load(rows.u[i]));
        }
    }

    template <int FIRST>
    void passes(int tokens, int local, const float* saved, Rows& rows) {
        constexpr int P = N < PASS ? N : PASS;
        if (p.z)
            replay<N, P, FIRST, true>(tokens, w, local, saved, rows);
        else
            replay<N, P, FIRST, false>(tokens, w, local, saved, rows);
        sweep<N, P, FIRST>(tokens, w, local, rows);
        if constexpr (FIRST + P < N) passes<FIRST + P>(tokens, local, saved, rows);
    }

    void block_tile(const Block& block, int64_t j, int64_t index, int64_t first, int tokens) {
        const int local = static_cast<int>(j - task.slice.block_begin);
        const int64_t d = block.channel, parameters = (s * p.K + k) * p.D + d;
        const auto place = [&](const CfmStrides& t, const int64_t* by = nullptr) {
            return Place{t.l, t.d, by, first, tokens, block.channels};
        };
        Rows rows;
        read_rows(place(p.us), at(p.u, p.us, s, k, b, d), w.u, rows.u);
        read_rows(place(p.deltas), at(p.delta, p.deltas, s, k, b, d), w.delta, rows.delta);
        read_rows(place(p.dys, order), at(p.dy, p.dys, s, 0, b, d), w.dy_in, rows.dy);
        float *du = at(p.du, p.dus, s, k, b, d), *ddelta = at(p.ddelta, p.ddeltas, s, k, b, d), *dz = nullptr;
        target_rows(place(p.dus), du, w.du, rows.du);
        target_rows(place(p.ddeltas), ddelta, w.ddelta, rows.ddelta);
        const auto next = [&](const CfmStrides& t) { return to_next(t, task.slice, j, -1); };
        rows.next_u = next(p.us), rows.next_delta = next(p.deltas), rows.next_dy = next(p.dys);
        rows.next_du = next(p.dus), rows.next_ddelta = next(p.ddeltas);
        if (p.z) {
            read_rows(place(p.zs), at(p.z, p.zs, s, k, b, d), w.z, rows.z);
            dz = at(p.dz, p.dzs, s, k, b, d);
            target_rows(place(p.dzs), dz, w.dz, rows.dz);
            rows.next_z = next(p.zs), rows.next_dz = next(p.dzs);
        }
        rows.bias = p.delta_bias ? load_channels(p.delta_bias + parameters, 1, block.channels) : V{};
        rows.skip = p.D_skip ? load_channels(p.D_skip + parameters, 1, block.channels) : V{};
        rows.dD = rows.dbias = V{};
        prepare(tokens, rows);
        passes<0>(tokens, local, states_at(p, cut, skb, index, block.index), rows);
        Sum::add(w.dD[local], rows.dD);
        Sum::add(w.dbias[local], rows.dbias);
        write_rows(place(p.dus), du, w.du);
        write_rows(place(p.ddeltas), ddelta, w.ddelta);
        if (!p.z) return;
        for (int i = 0; i < tokens; ++i) store(rows.dz[i], load(rows.dz[i]) * load(w.y.at[i]));
        write_rows(place(p.dzs), dz, w.dz);
    }

    void run() {
        begin();
        for (int64_t index = cut.tiles - 1; index >= 0; --index) tile(index);
        end();
    }
};

}  // namespace cfm
