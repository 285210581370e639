// Selective scan, backward: each tile is run forward again from its saved state, then swept in reverse.
#include <memory>

#include "order.hpp"
#include "parallel.hpp"
#include "scan_common.hpp"

namespace cfm {
namespace {

constexpr int64_t BACKWARD_BLOCKS = CHUNK_BLOCKS;

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
    Tile u, delta, z, dy, dt, dtu, y, ddt, ddtu, du, ddelta, dz;
};

// Runs PASS states forward over the tile, keeping them, and adds dC (and y where the gate needs it).
template <int N, int P, bool GATED>
CFM_INLINE void replay(int tokens, int first, BackwardScratch<N>& w, int block, const float* saved) {
    V a[P], h[P];
    for (int n = 0; n < P; ++n) {
        a[n] = load(w.A[block][first + n]);
        h[n] = load(saved + (first + n) * W);
        store(w.h[0][n], h[n]);
    }
    for (int i = 0; i < tokens; ++i) {
        V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]), dy = load(w.dy.at[i]), y{};
        for (int n = 0; n < P; ++n) {
            V e = exp2_product(dt, a[n]);
            h[n] = e * h[n] + dtu * w.B[i][first + n];
            store(w.decay[i][n], e);
            store(w.h[i + 1][n], h[n]);
            store(w.dC[i][first + n], load(w.dC[i][first + n]) + dy * h[n]);
            if (GATED) y += h[n] * w.C[i][first + n];
        }
        if (GATED) store(w.y.at[i], load(w.y.at[i]) + y);
    }
}

// Sweeps PASS states back over the tile.
template <int N, int P>
CFM_INLINE void sweep(int tokens, int first, BackwardScratch<N>& w, int block) {
    V carry[P], dA[P];
    for (int n = 0; n < P; ++n) {
        carry[n] = load(w.carry[block][first + n]);
        dA[n] = V{};
    }
    for (int i = tokens - 1; i >= 0; --i) {
        V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]), dy = load(w.dy.at[i]);
        V ddtu = load(w.ddtu.at[i]), ddt = load(w.ddt.at[i]);
        for (int n = 0; n < P; ++n) {
            V g = dy * w.C[i][first + n] + carry[n];
            store(w.dB[i][first + n], load(w.dB[i][first + n]) + dtu * g);
            ddtu += g * w.B[i][first + n];
            carry[n] = g * load(w.decay[i][n]);
            V gx = carry[n] * load(w.h[i][n]);  // gradient of dt A
            dA[n] += gx * dt;
            ddt += gx * load(w.A[block][first + n]);
        }
        store(w.ddtu.at[i], ddtu);
        store(w.ddt.at[i], ddt);
    }
    for (int n = 0; n < P; ++n) {
        store(w.carry[block][first + n], carry[n]);
        Sum::add(w.dA[block][first + n], dA[n]);
    }
}

struct Task {
    Slice slice;
    int64_t k, chunk;
    float *dA, *dD, *dbias;  // this batch item's own totals, (D, N) and (D) of weight set s, direction k
    float *dB, *dC;          // this chunk's own sums
    CfmStateStrides dBs, dCs;
};

template <int N>
struct Backward {
    const CfmScan& p;
    const Cut& cut;
    const Task& task;
    BackwardScratch<N>& w;
    int64_t s = task.slice.s, b = task.slice.b, k = task.k, skb = (s * p.K + k) * p.B + b;
    const int64_t* order = p.order ? p.order + k * p.L : nullptr;

    Place place(const CfmStrides& t, int64_t first, int tokens, const Block& block, const int64_t* by = nullptr) const {
        return {t.l, t.d, by, first, tokens, block.channels};
    }

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
        std::memset(w.dB, 0, sizeof(w.dB));
        std::memset(w.dC, 0, sizeof(w.dC));
        for (int64_t j = task.slice.block_begin; j < task.slice.block_end; ++j)
            block_tile(Block(cut, task.slice.g, j), static_cast<int>(j - task.slice.block_begin), index, first, tokens);
        reduce(w.dB, task.dB, task.dBs, first, tokens);
        reduce(w.dC, task.dC, task.dCs, first, tokens);
    }

    void reduce(const float (*lanes)[N][W], float* out, const CfmStateStrides& t, int64_t first, int tokens) {
        const float(*flat)[W] = lanes[0];
        alignas(64) float sums[T * N];
        for (int i = 0; i < tokens * N; i += W) {
            V v[W];
            for (int j = 0; j < W; ++j) v[j] = i + j < T * N ? load(flat[i + j]) : V{};
            store(sums + i, sum_each(v));
        }
        for (int i = 0; i < tokens; ++i)
            for (int n = 0; n < N; ++n) out[(first + i) * t.l + n * t.n] = sums[i * N + n];
    }

    void block_tile(const Block& block, int local, int64_t index, int64_t first, int tokens) {
        const float *u[T], *delta[T], *dy[T], *z[T];
        const int64_t d = block.channel, parameters = (s * p.K + k) * p.D + d;
        read_rows(place(p.us, first, tokens, block), at(p.u, p.us, s, k, b, d), w.u, u);
        read_rows(place(p.deltas, first, tokens, block), at(p.delta, p.deltas, s, k, b, d), w.delta, delta);
        read_rows(place(p.dys, first, tokens, block, order), at(p.dy, p.dys, s, 0, b, d), w.dy, dy);
        if (p.z) read_rows(place(p.zs, first, tokens, block), at(p.z, p.zs, s, k, b, d), w.z, z);
        const V bias = p.delta_bias ? load_channels(p.delta_bias + parameters, 1, block.channels) : V{};
        const V skip = p.D_skip ? load_channels(p.D_skip + parameters, 1, block.channels) : V{};
        for (int i = 0; i < tokens; ++i) {
            V v = load(delta[i]) + bias, dt = v, slope = splat(1.0f), ui = load(u[i]), dyi = load(dy[i]);
            if (p.softplus) {
                V e = exp_minus_abs(v), r = reciprocal(1.0f + e);
                dt = vmax(splat(0.0f), v) + log1p_unit(e);
                slope = v < 0.0f ? e * r : r;
            }
            if (p.z) {
                V zi = load(z[i]), gate = sigmoid(zi);
                store(w.dz.at[i], dyi * gate * (1.0f + zi * (1.0f - gate)));  // times y, once it is known
                dyi = dyi * zi * gate;
                store(w.y.at[i], skip * ui);
            }
            store(w.dt.at[i], dt);
            store(w.dtu.at[i], dt * ui);
            store(w.dy.at[i], dyi);
            store(w.ddelta.at[i], slope);
            store(w.ddt.at[i], V{});
            store(w.ddtu.at[i], V{});
        }
        const float* saved = states_at(p, cut, skb, index, block.index);
        constexpr int P = N < PASS ? N : PASS;
        for (int n = 0; n < N; n += P) {
            if (p.z)
                replay<N, P, true>(tokens, n, w, local, saved);
            else
                replay<N, P, false>(tokens, n, w, local, saved);
            sweep<N, P>(tokens, n, w, local);
        }
        V dD{}, dbias{};
        for (int i = 0; i < tokens; ++i) {
            V ui = load(u[i]), ddtu = load(w.ddtu.at[i]), dyi = load(w.dy.at[i]);
            V ddelta = (ddtu * ui + load(w.ddt.at[i]) * LN2) * load(w.ddelta.at[i]);
            store(w.du.at[i], ddtu * load(w.dt.at[i]) + skip * dyi);
            store(w.ddelta.at[i], ddelta);
            if (p.z) store(w.dz.at[i], load(w.dz.at[i]) * load(w.y.at[i]));
            dD += dyi * ui;
            dbias += ddelta;
        }
        Sum::add(w.dD[local], dD);
        Sum::add(w.dbias[local], dbias);
        write_rows(place(p.dus, first, tokens, block), at(p.du, p.dus, s, k, b, d), w.du, false);
        write_rows(place(p.ddeltas, first, tokens, block), at(p.ddelta, p.ddeltas, s, k, b, d), w.ddelta, false);
        if (p.z) write_rows(place(p.dzs, first, tokens, block), at(p.dz, p.dzs, s, k, b, d), w.dz, false);
    }

    void run() {
        begin();
        for (int64_t index = cut.tiles - 1; index >= 0; --index) tile(index);
        end();
    }
};

// out[i] = sum over m of parts[m][i], in the order of m.
void add_up(const float* parts, int64_t many, int64_t size, float* out) {
    for (int64_t i = 0; i < size; ++i) {
        double sum = 0.0;
        for (int64_t m = 0; m < many; ++m) sum += parts[m * size + i];
        out[i] = static_cast<float>(sum);
    }
}

template <int N>
int backward(const CfmScan& p) {
    const int64_t slices = p.S * p.K * p.B * p.G;
    // The cut depends on the shape alone: sums over channels keep their order whatever the number of threads.
    const int64_t whole = ceil_div(p.D / p.G, W);
    const Cut cut(p, std::min(BACKWARD_BLOCKS, slices >= 8 ? whole : std::max<int64_t>(1, ceil_div(whole * slices, 8))));
    const int64_t sk = p.S * p.K, matrix = p.D * N, states = slices * p.L * N;
    std::unique_ptr<float[]> totals(new float[p.B * sk * (matrix + 2 * p.D)]);
    std::unique_ptr<float[]> parts(cut.chunks > 1 ? new float[2 * cut.chunks * states] : nullptr);
    float *dA = totals.get(), *dD = dA + p.B * sk * matrix, *dbias = dD + p.B * sk * p.D;
    parallel_for(slices * cut.chunks, static_cast<int>(p.threads), [&](int64_t index) {
        Task task{};
        task.chunk = index % cut.chunks;
        task.slice.block_begin = task.chunk * cut.chunk_blocks;
        task.slice.block_end = std::min(task.slice.block_begin + cut.chunk_blocks, cut.group_blocks);
        const int64_t slice = index / cut.chunks;
        task.slice.g = slice % p.G;
        task.slice.b = slice / p.G % p.B;
        task.k = slice / p.G / p.B % p.K;
        task.slice.s = slice / p.G / p.B / p.K;
        const int64_t own = task.slice.b * sk + task.slice.s * p.K + task.k;
        task.dA = dA + own * matrix;
        task.dD = dD + own * p.D;
        task.dbias = dbias + own * p.D;
        if (parts) {
            task.dB = parts.get() + (task.chunk * slices + slice) * p.L * N;
            task.dC = task.dB + cut.chunks * states;
            task.dBs = task.dCs = {0, 0, 0, 0, N, 1};
        } else {
            task.dB = p.dB + at(p.dBs, task.slice.s, task.k, task.slice.b, task.slice.g);
            task.dC = p.dC + at(p.dCs, task.slice.s, task.k, task.slice.b, task.slice.g);
            task.dBs = p.dBs;
            task.dCs = p.dCs;
        }
        BackwardScratch<N> scratch;
        Backward<N>{p, cut, task, scratch}.run();
    });
    add_up(dA, p.B, sk * matrix, p.dA);
    if (p.dD_skip) add_up(dD, p.B, sk * p.D, p.dD_skip);
    if (p.ddelta_bias) add_up(dbias, p.B, sk * p.D, p.ddelta_bias);
    if (!parts) return 0;
    parallel_for(slices, static_cast<int>(p.threads), [&](int64_t slice) {
        const int64_t g = slice % p.G, b = slice / p.G % p.B, k = slice / p.G / p.B % p.K, s = slice / p.G / p.B / p.K;
        const float* from[2] = {parts.get() + slice * p.L * N, parts.get() + (cut.chunks * slices + slice) * p.L * N};
        float* to[2] = {p.dB + at(p.dBs, s, k, b, g), p.dC + at(p.dCs, s, k, b, g)};
        const CfmStateStrides* strides[2] = {&p.dBs, &p.dCs};
        for (int which = 0; which < 2; ++which)
            for (int64_t l = 0; l < p.L; ++l)
                for (int n = 0; n < N; ++n) {
                    float sum = 0.0f;
                    for (int64_t c = 0; c < cut.chunks; ++c) sum += from[which][c * states + l * N + n];
                    to[which][l * strides[which]->l + n * strides[which]->n] = sum;
                }
    });
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_scan_backward(const CfmScan* scan) {
    switch (scan->N) {
        case 4: return cfm::guarded(*scan, cfm::backward<4>);
        case 8: return cfm::guarded(*scan, cfm::backward<8>);
        case 16: return cfm::guarded(*scan, cfm::backward<16>);
    }
    return 1;
}
