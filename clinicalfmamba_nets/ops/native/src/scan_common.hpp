// What the forward and the backward scan share: how the work is cut, and the softplus of a tile.
#pragma once

#include <algorithm>
#include <memory>

#include "parallel.hpp"
#include "projection.hpp"
#include "tiles.hpp"

namespace cfm {

constexpr int PASS = W >= 16 ? 8 : 4;         // states held in registers at once
constexpr int TOGETHER = PASS / 2;            // states whose decays are computed side by side
constexpr int CHUNK_BLOCKS = 256 / W;         // vectors of channels in one task at most

CFM_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Channels are cut into groups (each with its own B and C), groups into vectors of W, vectors into chunks (one task each).
struct Cut {
    int64_t group_channels, group_blocks, chunk_blocks, chunks, tiles;

    Cut(const CfmScan& p, int64_t most_blocks)
        : group_channels(p.D / p.G),
          group_blocks(ceil_div(group_channels, W)),
          chunk_blocks(std::min(group_blocks, most_blocks)),
          chunks(ceil_div(group_blocks, chunk_blocks)),
          tiles(ceil_div(p.L, T)) {}
};

// One task's place: which tensors' slices and which blocks of channels.
struct Slice {
    int64_t s, b, g;
    int64_t block_begin, block_end;  // within the group
};

struct Block {
    int64_t channel;  // first channel in [0, D)
    int64_t index;    // vector's number over all groups
    int channels;     // 1 to W

    Block(const Cut& cut, int64_t g, int64_t block)
        : channel(g * cut.group_channels + block * W),
          index(g * cut.group_blocks + block),
          channels(static_cast<int>(std::min<int64_t>(W, cut.group_channels - block * W))) {}
};

// Floats from a row of this block to that of the next one: one vector on, or, after the last block of a task, back to
// the first block, `tiles` tiles on.
CFM_INLINE int64_t to_next(const CfmStrides& t, const Slice& slice, int64_t block, int tiles) {
    return block + 1 < slice.block_end ? W : tiles * T * t.l - (block - slice.block_begin) * W;
}

CFM_INLINE float* states_at(const CfmScan& p, const Cut& cut, int64_t skb, int64_t tile, int64_t block) {
    return p.states + (((skb * cut.tiles + tile) * p.G * cut.group_blocks) + block) * p.N * W;
}

CFM_INLINE const float* at(const float* base, const CfmStrides& t, int64_t s, int64_t k, int64_t b, int64_t d) {
    return base + s * t.s + k * t.k + b * t.b + d * t.d;
}
CFM_INLINE float* at(float* base, const CfmStrides& t, int64_t s, int64_t k, int64_t b, int64_t d) {
    return base + s * t.s + k * t.k + b * t.b + d * t.d;
}
CFM_INLINE int64_t at(const CfmStateStrides& t, int64_t s, int64_t k, int64_t b, int64_t g) {
    return s * t.s + k * t.k + b * t.b + g * t.g;
}

// The steps of a tile's first token, and the weights that widen them to the time steps of a vector of channels.
CFM_INLINE const float* steps_at(const CfmScan& p, const Slice& slice, int64_t k, int64_t first) {
    return p.steps + at(p.stepss, slice.s, k, slice.b, slice.g) + first * p.stepss.l;
}
CFM_INLINE Weights step_weights_at(const CfmScan& p, int64_t s, int64_t k, int64_t channel) {
    return {p.dt_weight + ((s * p.K + k) * p.D + channel) * p.R, p.R, 1};
}

// The problem with B and C state by state for each token, copied where they lie the other way.
template <int N>
class Packed {
public:
    CfmScan problem;

    explicit Packed(const CfmScan& p) : problem(p) {
        if (p.Bs.n == 1 && p.Cs.n == 1) return;
        const int64_t slices = p.S * p.K * p.B * p.G, size = p.L * N;
        copy_.reset(new float[2 * slices * size]);
        parallel_for(slices, static_cast<int>(p.threads), [&](int64_t i) {
            const int64_t g = i % p.G, b = i / p.G % p.B, k = i / p.G / p.B % p.K, s = i / p.G / p.B / p.K;
            copy(p.Bm + at(p.Bs, s, k, b, g), p.Bs, p.L, &copy_[i * size]);
            copy(p.Cm + at(p.Cs, s, k, b, g), p.Cs, p.L, &copy_[(slices + i) * size]);
        });
        problem.Bm = copy_.get();
        problem.Cm = copy_.get() + slices * size;
        problem.Bs = problem.Cs = {p.K * p.B * p.G * size, p.B * p.G * size, p.G * size, size, N, 1};
    }

private:
    static void copy(const float* from, const CfmStateStrides& t, int64_t length, float* to) {
        for (int64_t first = 0; first < length; first += 64)  // few enough to stay in the cache
            for (int n = 0; n < N; ++n)
                for (int64_t l = first; l < std::min(first + 64, length); ++l) to[l * N + n] = from[l * t.l + n * t.n];
    }

    std::unique_ptr<float[]> copy_;
};

}  // namespace cfm
