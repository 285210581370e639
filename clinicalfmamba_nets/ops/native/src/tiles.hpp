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

    bool whole_rows() const { return channel_stride == 1 && channels == W; }
    bool in_place() const { return whole_rows() && !order; }
    bool channel_major() const { return token_stride == 1 && !order && tokens == T && channels == W; }
};

// Rows of W floats, one for each token of a tile.
template <class Float>
struct Rows {
    Float* first;
    int64_t stride;
    Float* operator[](int i) const { return first + i * stride; }
};

template <class P, class Float>
CFM_INLINE P load_pack(const Rows<Float>& rows, int i) {
    P pack;
#pragma GCC unroll 8
    for (int j = 0; j < P::SIZE; ++j) pack.v[j] = load(rows[i + j]);
    return pack;
}

template <int K, class Float>
CFM_INLINE void store_pack(const Rows<Float>& rows, int i, Pack<K> pack) {
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) store(rows[i + j], pack.v[j]);
}

// Asks for the rows that are `ahead` floats from those of a pack.
template <class P, class Float>
CFM_INLINE void prefetch_pack(const Rows<Float>& rows, int i, int64_t ahead) {
#pragma GCC unroll 8
    for (int j = 0; j < P::SIZE; ++j) prefetch(rows[i + j], ahead);
}

CFM_INLINE Rows<float> rows_of(Tile& tile) { return {tile.at[0], W}; }

// Calls function(pack, i) for tokens i to i + K - 1 at a time, the type of `pack` telling the K.
template <class Function>
CFM_INLINE void in_packs(int tokens, Function function) {
    constexpr int AT_ONCE = W >= 16 ? 8 : 2;  // what the registers hold
    int i = 0;
    for (; i + AT_ONCE <= tokens; i += AT_ONCE) function(Pack<AT_ONCE>{}, i);
    for (; i < tokens; ++i) function(Pack<1>{}, i);
}

// The tile's rows: in place where the layout allows, else copied to the tile. Asks for the rows `ahead` floats on.
CFM_INLINE Rows<const float> read_rows(const Place& p, const float* base, Tile& tile, int64_t ahead = 0) {
    if (p.in_place()) return {base + p.first * p.token_stride, p.token_stride};
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
    } else if (p.whole_rows()) {
        for (int i = 0; i < p.tokens; ++i) {
            const float* row = base + p.offset(i);
            prefetch(row, ahead);
            store(tile.at[i], load(row));
        }
    } else {
        for (int i = 0; i < p.tokens; ++i) {
            const float* row = base + p.offset(i);
            for (int c = 0; c < W; ++c) tile.at[i][c] = c < p.channels ? row[c * p.channel_stride] : 0.0f;
        }
    }
    return {tile.at[0], W};
}

// Where the tile's rows may be written: in place, or in the tile, to be moved by write_rows.
CFM_INLINE Rows<float> target_rows(const Place& p, float* base, Tile& tile, bool add = false) {
    if (p.in_place() && !add) return {base + p.first * p.token_stride, p.token_stride};
    return rows_of(tile);
}

// Moves what was written to the tile instead of in place to the tensor, or adds it to what is there. Asks for the rows
// `ahead` floats on.
CFM_INLINE void write_rows(const Place& p, float* base, const Tile& tile, bool add = false, int64_t ahead = 0) {
    if (p.whole_rows()) {
        if (p.in_place() && !add) return;
        for (int i = 0; i < p.tokens; ++i) {
            float* row = base + p.offset(i);
            prefetch(row, ahead);
            store(row, add ? load(tile.at[i]) + load(row) : load(tile.at[i]));
        }
        return;
    }
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
