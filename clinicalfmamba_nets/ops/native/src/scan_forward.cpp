// Selective scan, forward: h = 2^(dt A log2 e) h + dt u B,  y = C h + D u, one vector of channels at a time.
#include "order.hpp"
#include "parallel.hpp"
#include "scan_common.hpp"

namespace cfm {
namespace {

template <int N>
struct alignas(64) ForwardScratch {
    float decay[CHUNK_BLOCKS][N][W];  // A log2 e
    float h[CHUNK_BLOCKS][N][W];
    float B[T][N], C[T][N];
    Tile u, delta, z, dt, dtu, y;
};

// Advances PASS states over one tile and adds their share to y.
template <int N, int P>
CFM_INLINE void advance(int tokens, int first, ForwardScratch<N>& w, int block) {
    V a[P], h[P];
    for (int n = 0; n < P; ++n) {
        a[n] = load(w.decay[block][first + n]);
        h[n] = load(w.h[block][first + n]);
    }
    for (int i = 0; i < tokens; ++i) {
        V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]), y = load(w.y.at[i]);
        for (int n = 0; n < P; ++n) {
            h[n] = exp2_product(dt, a[n]) * h[n] + dtu * w.B[i][first + n];
            y += h[n] * w.C[i][first + n];
        }
        store(w.y.at[i], y);
    }
    for (int n = 0; n < P; ++n) store(w.h[block][first + n], h[n]);
}

template <int N>
void forward_tile(const CfmScan& p, const Cut& cut, const Slice& at_slice, int64_t k, int64_t tile, ForwardScratch<N>& w) {
    const int64_t s = at_slice.s, b = at_slice.b;
    const int64_t skb = (s * p.K + k) * p.B + b, first = tile * T;
    const int tokens = static_cast<int>(std::min<int64_t>(T, p.L - first));
    read_states<N>(p.Bm + at(p.Bs, s, k, b, at_slice.g), p.Bs, first, tokens, w.B);
    read_states<N>(p.Cm + at(p.Cs, s, k, b, at_slice.g), p.Cs, first, tokens, w.C);
    for (int64_t j = at_slice.block_begin; j < at_slice.block_end; ++j) {
        const Block block(cut, at_slice.g, j);
        const int local = static_cast<int>(j - at_slice.block_begin);
        const int64_t parameters = (s * p.K + k) * p.D + block.channel;
        const float *u[T], *delta[T];
        const Place up{p.us.l, p.us.d, nullptr, first, tokens, block.channels};
        const Place deltap{p.deltas.l, p.deltas.d, nullptr, first, tokens, block.channels};
        const float* u0 = at(p.u, p.us, s, k, b, block.channel);
        const float* delta0 = at(p.delta, p.deltas, s, k, b, block.channel);
        read_rows(up, u0, w.u, u);
        read_rows(deltap, delta0, w.delta, delta);
        prefetch_next(up, u0, p.L);
        prefetch_next(deltap, delta0, p.L);
        const V bias = p.delta_bias ? load_channels(p.delta_bias + parameters, 1, block.channels) : V{};
        const V skip = p.D_skip ? load_channels(p.D_skip + parameters, 1, block.channels) : V{};
        for (int i = 0; i < tokens; ++i) {
            V dt = load(delta[i]) + bias, ui = load(u[i]);
            if (p.softplus) dt = softplus(dt);
            store(w.dt.at[i], dt);
            store(w.dtu.at[i], dt * ui);
            store(w.y.at[i], skip * ui);
        }
        if (p.states) std::memcpy(states_at(p, cut, skb, tile, block.index), w.h[local], sizeof(w.h[local]));
        constexpr int P = N < PASS ? N : PASS;
        for (int n = 0; n < N; n += P) advance<N, P>(tokens, n, w, local);
        if (p.z) {
            const float* z[T];
            read_rows({p.zs.l, p.zs.d, nullptr, first, tokens, block.channels}, at(p.z, p.zs, s, k, b, block.channel), w.z, z);
            for (int i = 0; i < tokens; ++i) {
                V zi = load(z[i]);
                store(w.y.at[i], load(w.y.at[i]) * zi * sigmoid(zi));
            }
        }
        const int64_t* order = p.order ? p.order + k * p.L : nullptr;
        const Place yp{p.ys.l, p.ys.d, order, first, tokens, block.channels};
        float* y0 = at(p.y, p.ys, s, 0, b, block.channel);
        write_rows(yp, y0, w.y, k > 0);
        prefetch_next(yp, y0, p.L);
    }
}

template <int N>
void forward_slice(const CfmScan& p, const Cut& cut, const Slice& slice) {
    ForwardScratch<N> w;
    for (int64_t k = 0; k < p.K; ++k) {
        for (int64_t j = slice.block_begin; j < slice.block_end; ++j) {
            const Block block(cut, slice.g, j);
            const int local = static_cast<int>(j - slice.block_begin);
            const float* A = p.A + ((slice.s * p.K + k) * p.D + block.channel) * N;
            for (int n = 0; n < N; ++n) {
                store(w.decay[local][n], load_channels(A + n, N, block.channels) * LOG2E);
                store(w.h[local][n], V{});
            }
        }
        for (int64_t tile = 0; tile < cut.tiles; ++tile) forward_tile<N>(p, cut, slice, k, tile, w);
        if (!p.last_state) continue;
        for (int64_t j = slice.block_begin; j < slice.block_end; ++j) {
            const Block block(cut, slice.g, j);
            float* out = p.last_state + (((slice.s * p.K + k) * p.B + slice.b) * p.D + block.channel) * N;
            for (int n = 0; n < N; ++n)
                store_channels(out + n, N, block.channels, load(w.h[j - slice.block_begin][n]));
        }
    }
}

template <int N>
int forward(const CfmScan& p) {
    // Channels do not mix, so the cut may follow the number of threads without changing the result.
    const int64_t whole = ceil_div(p.D / p.G, W), slices = p.S * p.B * p.G;
    const int64_t wanted = ceil_div(2 * p.threads, slices);
    const Cut cut(p, p.threads > 1 ? std::clamp<int64_t>(whole / wanted, 1, CHUNK_BLOCKS) : CHUNK_BLOCKS);
    parallel_for(slices * cut.chunks, static_cast<int>(p.threads), [&](int64_t task) {
        Slice slice{};
        slice.block_begin = task % cut.chunks * cut.chunk_blocks;
        slice.block_end = std::min(slice.block_begin + cut.chunk_blocks, cut.group_blocks);
        task /= cut.chunks;
        slice.g = task % p.G;
        slice.b = task / p.G % p.B;
        slice.s = task / p.G / p.B;
        forward_slice<N>(p, cut, slice);
    });
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_scan_forward(const CfmScan* scan) {
    switch (scan->N) {
        case 4: return cfm::guarded(*scan, cfm::forward<4>);
        case 8: return cfm::guarded(*scan, cfm::forward<8>);
        case 16: return cfm::guarded(*scan, cfm::forward<16>);
    }
    return 1;
}

extern "C" int64_t cfm_vector_width(void) { return cfm::W; }
extern "C" int64_t cfm_tile_tokens(void) { return cfm::T; }
