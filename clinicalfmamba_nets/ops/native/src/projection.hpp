// Projections between channels and a few numbers for each token, on tiles in the cache: the network's low-rank time steps,
// B and C. A matrix product over whole sequences would move as much memory as the scan itself.
#pragma once

#include <algorithm>
#include <vector>

#include "tiles.hpp"

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

// Weights (D, R) in any layout, from the first channel of a vector on.
struct Weights {
    const float* first;
    int64_t channel_stride, row_stride;

    const float* at(int64_t channel, int64_t row) const { return first + channel * channel_stride + row * row_stride; }
};

// From R numbers of a token to its channels: out[token][channel] = sum over r of numbers[token][r] weight[channel][r].
// Holds the weights of some vectors of channels, those of one vector side by side.
class Widening {
public:
    Widening(int64_t rank, int64_t vectors) : rank_(rank), rows_(rank * vectors) {}

    void read(int64_t vector, const Weights& weights, int channels) {
        for (int64_t r = 0; r < rank_; ++r)
            rows_[vector * rank_ + r].v[0] = load_channels(weights.at(0, r), weights.channel_stride, channels);
    }

    // Of some tokens, whose numbers are `stride` apart.
    template <class P>
    inline __attribute__((always_inline)) P of(int64_t vector, const float* numbers, int64_t stride) const {
        const Pack<1>* row = &rows_[vector * rank_];
        P sum = filled<P>(V{});
        for (int64_t r = 0; r < rank_; ++r, ++row, ++numbers)
#pragma GCC unroll 8
            for (int i = 0; i < P::SIZE; ++i) sum.v[i] += row->v[0] * numbers[i * stride];
        return sum;
    }

private:
    int64_t rank_;
    std::vector<Pack<1>> rows_;
};

// From a token's channels to R numbers: out[token][r] = sum over the channels of x[token][channel] weight[channel][r].
class Narrowing {
public:
    explicit Narrowing(int64_t rank) : rank_(static_cast<int>(rank)), sums_(rank) {}

    void begin_tile() { std::fill(sums_.begin(), sums_.end(), Tokens{}); }

    // One vector of channels of a tile; rows after the last token are read and ignored.
    void add(const Tile& x, const Weights& weights, int channels) {
        if (rank_ == 0) return;
        Tokens turned[W];
        for (int half = 0; half < T; half += W) turn(x, half, turned);
        in_packs(rank_, [&](auto pack, int r) {
            for (int half = 0; half < T; half += W) {
                auto sum = filled<decltype(pack)>(V{});
                const float* row[sum.SIZE];
#pragma GCC unroll 8
                for (int j = 0; j < sum.SIZE; ++j) row[j] = weights.at(0, r + j);
                for (int64_t c = 0, at = 0; c < channels; ++c, at += weights.channel_stride) {
                    const V x_c = load(turned[c].of + half);
#pragma GCC unroll 8
                    for (int j = 0; j < sum.SIZE; ++j) sum.v[j] += x_c * row[j][at];
                }
                for (int j = 0; j < sum.SIZE; ++j) {
                    float* to = sums_[r + j].of + half;
                    store(to, load(to) + sum.v[j]);
                }
            }
        });
    }

    // Moves the sums of a tile to its tokens, or adds them to what is there.
    void end_tile(float* out, int64_t token_stride, int64_t row_stride, int tokens, bool add) const {
        for (int i = 0; i < tokens; ++i)
            for (int r = 0; r < rank_; ++r) {
                float& to = out[i * token_stride + r * row_stride];
                to = add ? to + sums_[r].of[i] : sums_[r].of[i];
            }
    }

private:
    // One number for each token of a tile.
    struct alignas(64) Tokens {
        float of[T];
    };

    // Tokens side by side instead of channels.
    static void turn(const Tile& tile, int half, Tokens* turned) {
        V v[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) v[i] = load(tile.at[half + i]);
        transpose(v);
#pragma GCC unroll 16
        for (int c = 0; c < W; ++c) store(turned[c].of + half, v[c]);
    }

    int rank_;
    std::vector<Tokens> sums_;
};

// The gradient of a projection's weights: sum over the tokens of x[token][channel] numbers[token][r].
class WeightSums {
public:
    WeightSums(int64_t rank, int64_t vectors) : rank_(static_cast<int>(rank)), sums_(rank * vectors) {}

    void clear() { std::fill(sums_.begin(), sums_.end(), Sum{}); }

    void add(int64_t vector, const Tile& x, const float* numbers, int64_t stride, int tokens) {
        in_packs(rank_, [&](auto pack, int r) {
            auto sum = filled<decltype(pack)>(V{});
            for (int i = 0; i < tokens; ++i)
#pragma GCC unroll 8
                for (int j = 0; j < sum.SIZE; ++j) sum.v[j] += load(x.at[i]) * numbers[i * stride + r + j];
            for (int j = 0; j < sum.SIZE; ++j) Sum::add(sums_[vector * rank_ + r + j], sum.v[j]);
        });
    }

    void store_to(int64_t vector, float* out, int64_t channel_stride, int64_t row_stride, int channels) const {
        for (int r = 0; r < rank_; ++r)
            store_channels(out + r * row_stride, channel_stride, channels, sums_[vector * rank_ + r].total);
    }

private:
    int rank_;
    std::vector<Sum> sums_;
};

}  // namespace cfm
