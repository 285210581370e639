// One task of the backward scan: each tile is run forward again from its saved state, then swept in reverse.
#pragma once

#include "scan_common.hpp"

namespace cfm {

template <int N>
struct alignas(64) BackwardScratch {
    static constexpr int P = N < PASS ? N : PASS;
    float A[CHUNK_BLOCKS][N][W];       // A log2 e
    float carry[CHUNK_BLOCKS][N][W];   // gradient of the state after the tile
    Sum dA[CHUNK_BLOCKS][N], dD[CHUNK_BLOCKS], dbias[CHUNK_BLOCKS];
    float B[T][N], C[T][N];
    float dB[N / P][T][W], dC[N / P][T][W];  // W / P lanes for each state, summed over the blocks
    float h[T + 1][P][W], decay[T][P][W];
    Tile u, delta, z, dy_out, du, ddelta, dz;           // of the tensors, where their layout asks for copies
    Tile dt, dtu, slope, dy, dgate, y, ddt, ddtu;  // per token, see prepare
};

// What the passes over a block read and write besides the scratch.
struct Inputs {
    Rows<const float> u, delta, dy, z;
    Rows<float> du, ddelta, dz;
    int64_t next_u, next_delta, next_dy, next_z, next_du, next_ddelta, next_dz;
    const float* steps;
    V skip, bias;
};

// Adds what fold leaves of P vectors, two by two where they come from.
template <int P, class Function>
CFM_INLINE void add_folded(float* lanes, Function function) {
    V half[P / 2];
#pragma GCC unroll 8
    for (int n = 0; n < P / 2; ++n) {
        const V low = function(n), high = function(n + P / 2);
        half[n] = fold_two<W / 2>(low, high);
    }
    store(lanes, load(lanes) + fold<P / 2, W / 4>(half));
}

// Runs P states forward over the tile, keeping them, and adds dC (and y where the gate needs it).
template <int N, int P, int FIRST, bool GATED>
CFM_INLINE void replay(int tokens, BackwardScratch<N>& w, int block, const float* saved, const Inputs& in) {
    const float *A = w.A[block][FIRST], *B = w.B[0] + FIRST, *C = w.C[0] + FIRST;
    float *h_out = w.h[0][0], *decay_out = w.decay[0][0];
    V a[P], h[P];
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        a[n] = load(A + n * W);
        h[n] = load(saved + (FIRST + n) * W);
        store(h_out + n * W, h[n]);
    }
    for (int i = 0; i < tokens; ++i, B += N, C += N, decay_out += P * W) {
        const V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]);
        prefetch(in.u[i], in.next_u);
        prefetch(in.delta[i], in.next_delta);
        V y[2] = {GATED ? (FIRST ? load(w.y.at[i]) : in.skip * load(in.u[i])) : V{}, V{}};
        h_out += P * W;
#pragma GCC unroll 8
        for (int first = 0; first < P; first += TOGETHER) {
            const auto step = exp2_product(dt, each<TOGETHER>([&](int n) { return a[first + n]; }));
#pragma GCC unroll 8
            for (int j = 0; j < TOGETHER; ++j) {
                const int n = first + j;
                h[n] = step.v[j] * h[n] + dtu * B[n];
                store(decay_out + n * W, step.v[j]);
                store(h_out + n * W, h[n]);
                if (GATED) y[n & 1] += h[n] * C[n];
            }
        }
        if (GATED) store(w.y.at[i], y[0] + y[1]);
    }
}

// Sweeps P states back over the tile; the last pass has the gradients of u and delta.
template <int N, int P, int FIRST>
CFM_INLINE void sweep(int tokens, BackwardScratch<N>& w, int block, const Inputs& in) {
    const float *A = w.A[block][FIRST];
    V carry[P], dA[P], dD{}, dbias{};
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        carry[n] = load(w.carry[block][FIRST + n]);
        dA[n] = V{};
    }
    for (int i = tokens - 1; i >= 0; --i) {
        const float *B = w.B[i] + FIRST, *C = w.C[i] + FIRST, *decay = w.decay[i][0], *h = w.h[i][0];
        const V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]), dy = load(w.dy.at[i]);
        prefetch(in.dy[i], in.next_dy);
        prefetch(in.du[i], in.next_du);
        prefetch(in.ddelta[i], in.next_ddelta);
        V ddtu[2] = {FIRST ? load(w.ddtu.at[i]) : V{}, V{}}, ddt[2] = {FIRST ? load(w.ddt.at[i]) : V{}, V{}};
        add_folded<P>(w.dB[FIRST / P][i], [&](int n) {
            const V g = dy * C[n] + carry[n];
            ddtu[n & 1] += g * B[n];
            carry[n] = g * load(decay + n * W);
            const V gx = carry[n] * load(h + n * W);  // gradient of dt A
            dA[n] += gx * dt;
            ddt[n & 1] += gx * load(A + n * W);
            return dtu * g;
        });
        add_folded<P>(w.dC[FIRST / P][i], [&](int n) { return dy * load(h + (P + n) * W); });
        const V sum_dtu = ddtu[0] + ddtu[1], sum_dt = ddt[0] + ddt[1];
        if (FIRST + P < N) {
            store(w.ddtu.at[i], sum_dtu);
            store(w.ddt.at[i], sum_dt);
        } else {
            const V u = load(in.u[i]), ddelta = (sum_dtu * u + sum_dt * LN2) * load(w.slope.at[i]);
            store(in.du[i], sum_dtu * dt + in.skip * dy);
            store(in.ddelta[i], ddelta);
            dD += dy * u;
            dbias += ddelta;
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        store(w.carry[block][FIRST + n], carry[n]);
        Sum::add(w.dA[block][FIRST + n], dA[n]);
    }
    if (FIRST + P < N) return;
    Sum::add(w.dD[block], dD);
    Sum::add(w.dbias[block], dbias);
}

struct Task {
    Slice slice;
    int64_t k;
    float *dA, *dD, *dbias;  // this batch item's own totals, (D, N) and (D) of weight set s, direction k
    float* dstep_weight;     // likewise, (D, R)
    float *dB, *dC, *dsteps; // sums over the channels
    CfmStateStrides dBs, dCs, dstepss;
    bool add;                // to what the chunks before have put into these
};

template <int N>
struct Backward {
    const CfmScan& p;
    const Cut& cut;
    const Task& task;
    BackwardScratch<N>& w;
    Widening steps_to_delta{p.R, cut.chunk_blocks};
    Narrowing ddelta_to_steps{p.R};
    WeightSums dstep_weight{p.R, cut.chunk_blocks};
    int64_t s = task.slice.s, b = task.slice.b, k = task.k, skb = (s * p.K + k) * p.B + b;
    const int64_t* order = p.order ? p.order + k * p.L : nullptr;

    void begin() {
        for (int64_t j = task.slice.block_begin; j < task.slice.block_end; ++j) {
            const Block block(cut, task.slice.g, j);
            const int local = static_cast<int>(j - task.slice.block_begin);
            const float* A = p.A + ((s * p.K + k) * p.D + block.channel) * N;
            steps_to_delta.read(local, step_weights_at(p, s, k, block.channel), block.channels);
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
            dstep_weight.store_to(local, task.dstep_weight + block.channel * p.R, p.R, 1, block.channels);
        }
    }

    void tile(int64_t index) {
        const int64_t first = index * T;
        const int tokens = static_cast<int>(std::min<int64_t>(T, p.L - first));
        read_states<N>(p.Bm + at(p.Bs, s, k, b, task.slice.g), p.Bs, first, tokens, w.B);
        read_states<N>(p.Cm + at(p.Cs, s, k, b, task.slice.g), p.Cs, first, tokens, w.C);
        std::memset(w.dB, 0, sizeof(w.dB));
        std::memset(w.dC, 0, sizeof(w.dC));
        ddelta_to_steps.begin_tile();
        for (int64_t j = task.slice.block_begin; j < task.slice.block_end; ++j)
            block_tile(Block(cut, task.slice.g, j), j, index, first, tokens);
        finish(w.dB, task.dB, task.dBs, first, tokens);
        finish(w.dC, task.dC, task.dCs, first, tokens);
        const CfmStateStrides& t = task.dstepss;
        ddelta_to_steps.end_tile(task.dsteps + first * t.l, t.l, t.n, tokens, task.add);
    }

    // Adds up the lanes of each state, for EACH tokens at a time.
    void finish(const float (*lanes)[T][W], float* out, const CfmStateStrides& t, int64_t first, int tokens) {
        constexpr int P = BackwardScratch<N>::P, EACH = W / P;
        for (int begin = 0; begin < N; begin += P, ++lanes)
            for (int i = 0; i < tokens; i += EACH) {
                alignas(64) float sums[P][EACH];
                V v[EACH];
#pragma GCC unroll 4
                for (int j = 0; j < EACH; ++j) v[j] = load((*lanes)[i + j]);
                store(sums[0], fold<EACH, EACH / 2>(v));
                for (int j = 0; j < std::min(EACH, tokens - i); ++j)
                    for (int n = 0; n < P; ++n) {
                        float& to = out[(first + i + j) * t.l + (begin + n) * t.n];
                        to = task.add ? to + sums[n][j] : sums[n][j];
                    }
            }
    }

    // Per token: dt and its slope, dt u, dy as the state sees it, and the gradient of z but for y.
    void prepare(int tokens, int local, const Inputs& in) {
        in_packs(tokens, [&](auto pack, int i) {
            using Tokens = decltype(pack);
            const Tokens given = p.R ? steps_to_delta.of<Tokens>(local, in.steps + i * p.stepss.l, p.stepss.l)
                                     : load_pack<Tokens>(in.delta, i);
            const Tokens v = given + in.bias;
            Tokens dt = v, slope = filled<Tokens>(splat(1.0f));
            if (p.softplus) {
                const Tokens e = exp_minus_abs(v), r = reciprocal(1.0f + e);
                dt = positive_part(v) + log1p_unit(e);
                slope = if_negative(v, e * r, r);
            }
            store_pack(rows_of(w.dt), i, dt);
            store_pack(rows_of(w.slope), i, slope);
            store_pack(rows_of(w.dtu), i, dt * load_pack<Tokens>(in.u, i));
            if (!p.z) store_pack(rows_of(w.dy), i, load_pack<Tokens>(in.dy, i));
        });
        if (!p.z) return;
        in_packs(tokens, [&](auto pack, int i) {
            using Tokens = decltype(pack);
            prefetch_pack<Tokens>(in.z, i, in.next_z);
            prefetch_pack<Tokens>(in.dz, i, in.next_dz);
            const Tokens z = load_pack<Tokens>(in.z, i), gate = sigmoid(z), dy = load_pack<Tokens>(in.dy, i) * gate;
            store_pack(rows_of(w.dy), i, dy * z);
            store_pack(rows_of(w.dgate), i, dy * (1.0f + z * (1.0f - gate)));
        });
    }

    template <int FIRST>
    void passes(int tokens, int local, const float* saved, const Inputs& in) {
        constexpr int P = BackwardScratch<N>::P;
        if (p.z)
            replay<N, P, FIRST, true>(tokens, w, local, saved, in);
        else
            replay<N, P, FIRST, false>(tokens, w, local, saved, in);
        sweep<N, P, FIRST>(tokens, w, local, in);
        if constexpr (FIRST + P < N) passes<FIRST + P>(tokens, local, saved, in);
    }

    void block_tile(const Block& block, int64_t j, int64_t index, int64_t first, int tokens) {
        const int local = static_cast<int>(j - task.slice.block_begin);
        const int64_t d = block.channel, parameters = (s * p.K + k) * p.D + d;
        const auto place = [&](const CfmStrides& t, const int64_t* by = nullptr) {
            return Place{t.l, t.d, by, first, tokens, block.channels};
        };
        const auto next = [&](const CfmStrides& t) { return to_next(t, task.slice, j, -1); };
        Inputs in;
        in.next_u = next(p.us), in.next_delta = next(p.deltas), in.next_dy = next(p.dys);
        in.next_du = next(p.dus), in.next_ddelta = next(p.ddeltas);
        in.u = read_rows(place(p.us), at(p.u, p.us, s, k, b, d), w.u);
        if (p.R) {
            in.steps = steps_at(p, task.slice, k, first);
            in.delta = Rows<const float>{w.delta.at[0], W};
        } else {
            in.delta = read_rows(place(p.deltas), at(p.delta, p.deltas, s, k, b, d), w.delta);
        }
        in.dy = read_rows(place(p.dys, order), at(p.dy, p.dys, s, 0, b, d), w.dy_out, in.next_dy);
        float *du = at(p.du, p.dus, s, k, b, d), *ddelta = p.R ? nullptr : at(p.ddelta, p.ddeltas, s, k, b, d);
        float* dz = nullptr;
        in.du = target_rows(place(p.dus), du, w.du);
        in.ddelta = p.R ? rows_of(w.ddelta) : target_rows(place(p.ddeltas), ddelta, w.ddelta);
        if (p.z) {
            in.z = read_rows(place(p.zs), at(p.z, p.zs, s, k, b, d), w.z);
            dz = at(p.dz, p.dzs, s, k, b, d);
            in.dz = target_rows(place(p.dzs), dz, w.dz);
            in.next_z = next(p.zs), in.next_dz = next(p.dzs);
        }
        in.bias = p.delta_bias ? load_channels(p.delta_bias + parameters, 1, block.channels) : V{};
        in.skip = p.D_skip ? load_channels(p.D_skip + parameters, 1, block.channels) : V{};
        prepare(tokens, local, in);
        passes<0>(tokens, local, states_at(p, cut, skb, index, block.index), in);
        write_rows(place(p.dus), du, w.du);
        if (p.R) {
            ddelta_to_steps.add(w.ddelta, step_weights_at(p, s, k, d), block.channels);
            dstep_weight.add(local, w.ddelta, in.steps, p.stepss.l, tokens);
        } else {
            write_rows(place(p.ddeltas), ddelta, w.ddelta);
        }
        if (!p.z) return;
        for (int i = 0; i < tokens; ++i) store(in.dz[i], load(w.dgate.at[i]) * load(w.y.at[i]));
        write_rows(place(p.dzs), dz, w.dz);
    }

    void run() {
        begin();
        for (int64_t index = cut.tiles - 1; index >= 0; --index) tile(index);
        end();
    }
};

}  // namespace cfm
