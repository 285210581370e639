// Moves tiles of T tokens x W channels between tensors of any layout and small dense arrays.
#pragma once

#include "abi.h"
#include "vec.hpp"

namespace cfm {

// T x W floats, token by token.
struct alignas(64) Tile {
    float at[T][W];
};

// Where a tile lies in a tensor: base is token 0, first channel of the tile.
struct Place {
    int64_t token_stride, channel_stride;
    const int64_t* order;  // token at each position, or null
    int64_t first;         // position of the tile's first token
    int tokens, channels;  // how many of T and W are there

    int64_t offset(int i) const { return (order ? order[first + i] : first + i) * token_stride; }

    template <class Float>
    void rows_of(Float* base, Float** rows) const {
        if (order)
            for (int i = 0; i < tokens; ++i) rows[i] = base + order[first + i] * token_stride;
        else
            for (int i = 0; i < tokens; ++i) rows[i] = base + (first + i) * token_stride;
    }
    bool whole_rows() const { return channel_stride == 1 && channels == W; }
    bool channel_major() const { return token_stride == 1 && !order && tokens == T && channels == W; }
};

// Sets rows[i] to W readable floats of token i: in place where the layout allows, else copied to the tile.
CFM_INLINE void read_rows(const Place& p, const float* base, Tile& tile, const float** rows) {
    if (p.whole_rows()) return p.rows_of(base, rows);
    for (int i = 0; i < p.tokens; ++i) rows[i] = tile.at[i];
    if (p.channel_major()) {
        for (int half = 0; half < T; half += W) {
            V v[W];
#pragma GCC unroll 16
            for (int c = 0; c < W; ++c) {
                const float* line = base + c * p.channel_stride + p.first + half;
                v[c] = load(line);
                __builtin_prefetch(line + T, 0, 2);  // of the next tile
            }
            transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) store(tile.at[half + i], v[i]);
        }
        return;
    }
    for (int i = 0; i < p.tokens; ++i) {
        const float* row = base + p.offset(i);
        for (int c = 0; c < W; ++c) tile.at[i][c] = c < p.channels ? row[c * p.channel_stride] : 0.0f;
    }
}

// Sets rows[i] to where token i may be written: in place, or in the tile, to be moved by write_rows.
CFM_INLINE void target_rows(const Place& p, float* base, Tile& tile, float** rows) {
    if (p.whole_rows()) return p.rows_of(base, rows);
    for (int i = 0; i < p.tokens; ++i) rows[i] = tile.at[i];
}

// Moves what was written to the tile instead of in place to the tensor, or adds it to what is there.
CFM_INLINE void write_rows(const Place& p, float* base, const Tile& tile, bool add = false) {
    if (p.whole_rows()) return;
    if (p.channel_major() && !add) {
        for (int half = 0; half < T; half += W) {
            V v[W];
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) v[i] = load(tile.at[half + i]);
            transpose(v);
#pragma GCC unroll 16
            for (int c = 0; c < W; ++c) store(base + c * p.channel_stride + p.first + half, v[c]);
        }
        return;
    }
    for (int i = 0; i < p.tokens; ++i) {
        float* row = base + p.offset(i);
        for (int c = 0; c < p.channels; ++c) {
            float* out = row + c * p.channel_stride;
            *out = add ? *out + tile.at[i][c] : tile.at[i][c];
        }
    }
}

// Copies the T x N floats of B or C of one tile; `base` is token 0.
template <int N>
CFM_INLINE void read_states(const float* base, const CfmStateStrides& s, int64_t first, int tokens, float (*out)[N]) {
    base += first * s.l;
    if (s.n == 1) {
        for (int i = 0; i < tokens; ++i) std::memcpy(out[i], base + i * s.l, N * sizeof(float));
        return;
    }
    for (int n = 0; n < N; ++n)
        for (int i = 0; i < tokens; ++i) out[i][n] = base[i * s.l + n * s.n];
}

CFM_INLINE V load_channels(const float* p, int64_t stride, int channels) {
    if (stride == 1 && channels == W) return load(p);
    V v{};
    for (int c = 0; c < channels; ++c) v[c] = p[c * stride];
    return v;
}

CFM_INLINE void store_channels(float* p, int64_t stride, int channels, V v) {
    for (int c = 0; c < channels; ++c) p[c * stride] = v[c];
}

}  // namespace cfm
