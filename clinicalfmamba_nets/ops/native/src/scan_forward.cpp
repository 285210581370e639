// Selective scan, forward: h = 2^(dt A log2 e) h + dt u B,  y = C h + D u, one vector of channels at a time.
#include "empty.hpp"
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

// Floats from a row to the one needed next, by tensor.
struct Next {
    int64_t u, delta, y, z;
};

// Advances P states over one tile; the first pass starts y at D u.
template <int N, int P, int FIRST>
CFM_INLINE void advance(int tokens, ForwardScratch<N>& w, int block, V skip, const Rows<const float>& u,
                        const Rows<const float>& delta, const Rows<float>& y, const Next& next) {
    const float *decay = w.decay[block][FIRST], *B = w.B[0] + FIRST, *C = w.C[0] + FIRST;
    float* state = w.h[block][FIRST];
    V a[P], h[P];
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) {
        a[n] = load(decay + n * W);
        h[n] = load(state + n * W);
    }
    for (int i = 0; i < tokens; ++i, B += N, C += N) {
        const V dt = load(w.dt.at[i]), dtu = load(w.dtu.at[i]);
        prefetch(u[i], next.u);
        prefetch(delta[i], next.delta);
        prefetch(y[i], next.y);
        V sum[2] = {FIRST == 0 ? skip * load(u[i]) : load(y[i]), V{}};
#pragma GCC unroll 8
        for (int first = 0; first < P; first += TOGETHER) {
            const auto step = exp2_product(dt, each<TOGETHER>([&](int n) { return a[first + n]; }));
#pragma GCC unroll 8
            for (int n = 0; n < TOGETHER; ++n) {
                h[first + n] = step.v[n] * h[first + n] + dtu * B[first + n];
                sum[n & 1] += h[first + n] * C[first + n];
            }
        }
        store(y[i], sum[0] + sum[1]);
    }
#pragma GCC unroll 8
    for (int n = 0; n < P; ++n) store(state + n * W, h[n]);
    if constexpr (FIRST + P < N) advance<N, P, FIRST + P>(tokens, w, block, skip, u, delta, y, next);
}

// One block of channels over one tile of tokens.
template <int N>
struct ForwardTile {
    const CfmScan& p;
    const Cut& cut;
    const Slice& slice;
    const Widening& steps_to_delta;
    ForwardScratch<N>& w;
    int64_t k, first;
    int tokens;

    Place place(const CfmStrides& t, int channels, const int64_t* order = nullptr) const {
        return {t.l, t.d, order, first, tokens, channels};
    }

    void prepare(const Rows<const float>& u, const Rows<const float>& delta, V bias, int local) const {
        const float* steps = p.R ? steps_at(p, slice, k, first) : nullptr;
        in_packs(tokens, [&](auto pack, int i) {
            using Tokens = decltype(pack);
            const auto given = p.R ? steps_to_delta.of<Tokens>(local, steps + i * p.stepss.l, p.stepss.l)
                                   : load_pack<Tokens>(delta, i);
            const auto v = given + bias, dt = p.softplus ? softplus(v) : v;
            store_pack(rows_of(w.dt), i, dt);
            store_pack(rows_of(w.dtu), i, dt * load_pack<Tokens>(u, i));
        });
    }

    void gate(const Block& block, const Rows<float>& y, const Next& next) const {
        const auto z = read_rows(place(p.zs, block.channels), at(p.z, p.zs, slice.s, k, slice.b, block.channel), w.z);
        in_packs(tokens, [&](auto pack, int i) {
            const auto zi = load_pack<decltype(pack)>(z, i);
            prefetch_pack<decltype(pack)>(z, i, next.z);
            store_pack(y, i, load_pack<decltype(pack)>(y, i) * zi * sigmoid(zi));
        });
    }

    void run(const Block& block, int local) const {
        const int64_t s = slice.s, b = slice.b, parameters = (s * p.K + k) * p.D + block.channel;
        const int64_t j = slice.block_begin + local;
        const Next next{to_next(p.us, slice, j, 1), to_next(p.deltas, slice, j, 1), to_next(p.ys, slice, j, 1),
                        to_next(p.zs, slice, j, 1)};
        const auto u = read_rows(place(p.us, block.channels), at(p.u, p.us, s, k, b, block.channel), w.u);
        const Rows<const float> delta =
            p.R ? Rows<const float>{w.delta.at[0], W}
                : read_rows(place(p.deltas, block.channels), at(p.delta, p.deltas, s, k, b, block.channel), w.delta);
        const V bias = p.delta_bias ? load_channels(p.delta_bias + parameters, 1, block.channels) : V{};
        const V skip = p.D_skip ? load_channels(p.D_skip + parameters, 1, block.channels) : V{};
        prepare(u, delta, bias, local);
        if (p.states) {
            const int64_t skb = (s * p.K + k) * p.B + b;
            std::memcpy(states_at(p, cut, skb, first / T, block.index), w.h[local], sizeof(w.h[local]));
        }
        // Directions are added to each other at their tokens; the first one finds nothing there yet.
        const Place place_y = place(p.ys, block.channels, p.order ? p.order + k * p.L : nullptr);
        float* y0 = at(p.y, p.ys, s, 0, b, block.channel);
        const auto y = target_rows(place_y, y0, w.y, k > 0);
        advance<N, (N < PASS ? N : PASS), 0>(tokens, w, local, skip, u, delta, y, next);
        if (p.z) gate(block, y, next);
        write_rows(place_y, y0, w.y, k > 0, W);
    }
};

template <int N>
void forward_tile(const CfmScan& p, const Cut& cut, const Slice& slice, int64_t k, int64_t tile,
                  const Widening& steps_to_delta, ForwardScratch<N>& w) {
    const int64_t first = tile * T;
    const int tokens = static_cast<int>(std::min<int64_t>(T, p.L - first));
    const ForwardTile<N> work{p, cut, slice, steps_to_delta, w, k, first, tokens};
    read_states<N>(p.Bm + at(p.Bs, slice.s, k, slice.b, slice.g), p.Bs, first, work.tokens, w.B);
    read_states<N>(p.Cm + at(p.Cs, slice.s, k, slice.b, slice.g), p.Cs, first, work.tokens, w.C);
    for (int64_t j = slice.block_begin; j < slice.block_end; ++j)
        work.run(Block(cut, slice.g, j), static_cast<int>(j - slice.block_begin));
}

template <int N>
void forward_slice(const CfmScan& p, const Cut& cut, const Slice& slice) {
    ForwardScratch<N> w;
    Widening steps_to_delta(p.R, cut.chunk_blocks);
    for (int64_t k = 0; k < p.K; ++k) {
        for (int64_t j = slice.block_begin; j < slice.block_end; ++j) {
            const Block block(cut, slice.g, j);
            const int local = static_cast<int>(j - slice.block_begin);
            const float* A = p.A + ((slice.s * p.K + k) * p.D + block.channel) * N;
            steps_to_delta.read(local, step_weights_at(p, slice.s, k, block.channel), block.channels);
            for (int n = 0; n < N; ++n) {
                store(w.decay[local][n], load_channels(A + n, N, block.channels) * LOG2E);
                store(w.h[local][n], V{});
            }
        }
        for (int64_t tile = 0; tile < cut.tiles; ++tile) forward_tile<N>(p, cut, slice, k, tile, steps_to_delta, w);
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
int forward(const CfmScan& problem) {
    const Packed<N> packed(problem);
    const CfmScan& p = packed.problem;
    // Channels do not mix, so the cut may follow the number of threads without changing the result.
    const int64_t whole = ceil_div(p.D / p.G, W), slices = p.S * p.B * p.G;
    int64_t wanted = ceil_div(p.threads, slices);
    while (slices * wanted % p.threads != 0 && slices * wanted < 4 * p.threads) ++wanted;  // no thread waits for another
    const int64_t share = p.threads > 1 ? std::clamp<int64_t>(whole / wanted, 1, CHUNK_BLOCKS) : CHUNK_BLOCKS;
    // Where a channel's tokens are next to each other, one vector of channels goes through all of them by itself.
    const Cut cut(p, p.us.d == 1 ? share : 1);
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
    if (cfm::is_empty(*scan)) return cfm::forward_of_nothing(*scan);
    switch (scan->N) {
        case 4: return cfm::guarded_with_order(*scan, cfm::forward<4>);
        case 8: return cfm::guarded_with_order(*scan, cfm::forward<8>);
        case 16: return cfm::guarded_with_order(*scan, cfm::forward<16>);
    }
    return 1;
}

extern "C" int64_t cfm_vector_width(void) { return cfm::W; }
extern "C" int64_t cfm_tile_tokens(void) { return cfm::T; }
