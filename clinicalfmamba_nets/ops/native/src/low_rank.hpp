// Time steps of low rank R: delta[token][channel] = sum over r of steps[token][r] weight[channel][r]. The scan forms them
// tile by tile; in memory they would take as much room as its input.
#pragma once

#include <vector>

#include "scan_common.hpp"

namespace cfm {

// The weights of a task's channels, those of one vector side by side.
class StepWeights {
public:
    StepWeights(const CfmScan& p, const Cut& cut) : rank_(p.R), rows_(cut.chunk_blocks * p.R) {}

    void read(const CfmScan& p, const Cut& cut, const Slice& slice, int64_t k) {
        for (int64_t j = slice.block_begin; rank_ && j < slice.block_end; ++j) {
            const Block block(cut, slice.g, j);
            const float* from = at(p, slice.s, k, block.channel);
            for (int64_t r = 0; r < rank_; ++r)
                rows_[(j - slice.block_begin) * rank_ + r].v[0] = load_channels(from + r, rank_, block.channels);
        }
    }

    // delta of some tokens, whose steps are `stride` apart.
    template <class P>
    inline __attribute__((always_inline)) P widen(int64_t local, const float* steps, int64_t stride) const {
        const Pack<1>* row = &rows_[local * rank_];
        P sum = filled<P>(V{});
        for (int64_t r = 0; r < rank_; ++r, ++row, ++steps)
#pragma GCC unroll 8
            for (int i = 0; i < P::SIZE; ++i) sum.v[i] += row->v[0] * steps[i * stride];
        return sum;
    }

    static const float* at(const CfmScan& p, int64_t s, int64_t k, int64_t channel) {
        return p.dt_weight + ((s * p.K + k) * p.D + channel) * p.R;
    }

private:
    int64_t rank_;
    std::vector<Pack<1>> rows_;
};

CFM_INLINE const float* steps_at(const CfmScan& p, const Slice& slice, int64_t k, int64_t first) {
    return p.steps + at(p.stepss, slice.s, k, slice.b, slice.g) + first * p.stepss.l;
}

// What the gradient of delta, a tile at a time, adds to the gradients of the steps and of the weights.
class StepGradients {
public:
    StepGradients(const CfmScan& p, const Cut& cut) : rank_(p.R), steps_(p.R), weights_(cut.chunk_blocks * p.R) {}

    void begin_tile() { std::fill(steps_.begin(), steps_.end(), Tokens{}); }

    // One vector of channels; `weight` is that of the first one.
    void add(const Tile& ddelta, int tokens, const Block& block, int64_t local, const float* weight, const float* steps,
             int64_t stride) {
        Tokens turned[W];
        turn(ddelta, turned);
        in_packs(static_cast<int>(rank_), [&](auto pack, int r) {
            for (int half = 0; half < T; half += W) add_to_steps<decltype(pack)>(r, half, turned, block.channels, weight);
            auto sum = filled<decltype(pack)>(V{});
            for (int i = 0; i < tokens; ++i)
#pragma GCC unroll 8
                for (int j = 0; j < sum.SIZE; ++j) sum.v[j] += load(ddelta.at[i]) * steps[i * stride + r + j];
            for (int j = 0; j < sum.SIZE; ++j) Sum::add(weights_[local * rank_ + r + j], sum.v[j]);
        });
    }

    // Moves the sums of a tile to its tokens.
    void end_tile(float* out, const CfmStateStrides& t, int64_t first, int tokens, bool add) const {
        for (int i = 0; i < tokens; ++i)
            for (int64_t r = 0; r < rank_; ++r) {
                float& to = out[(first + i) * t.l + r * t.n];
                to = add ? to + steps_[r].of[i] : steps_[r].of[i];
            }
    }

    // The weights' gradients of one vector of channels.
    void store_weights(const Block& block, int64_t local, float* out) const {
        for (int64_t r = 0; r < rank_; ++r)
            store_channels(out + block.channel * rank_ + r, rank_, block.channels, weights_[local * rank_ + r].total);
    }

private:
    // One number for each token of a tile.
    struct alignas(64) Tokens {
        float of[T];
    };

    // Tokens side by side instead of channels.
    static void turn(const Tile& tile, Tokens* turned) {
        for (int half = 0; half < T; half += W) {
            V v[W];
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) v[i] = load(tile.at[half + i]);
            transpose(v);
#pragma GCC unroll 16
            for (int c = 0; c < W; ++c) store(turned[c].of + half, v[c]);
        }
    }

    template <class P>
    void add_to_steps(int r, int half, const Tokens* turned, int channels, const float* weight) {
        P sum = each<P::SIZE>([&](int j) { return load(steps_[r + j].of + half); });
        for (int c = 0; c < channels; ++c)
#pragma GCC unroll 8
            for (int j = 0; j < P::SIZE; ++j) sum.v[j] += load(turned[c].of + half) * weight[c * rank_ + r + j];
        for (int j = 0; j < P::SIZE; ++j) store(steps_[r + j].of + half, sum.v[j]);
    }

    int64_t rank_;
    std::vector<Tokens> steps_;
    std::vector<Sum> weights_;
};

}  // namespace cfm
