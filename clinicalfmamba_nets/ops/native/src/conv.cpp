// Causal depthwise convolution along each direction's order, then SiLU and a projection of the result; tokens are
// gathered, never copied.
#include <algorithm>
#include <memory>

#include "empty.hpp"
#include "order.hpp"
#include "parallel.hpp"
#include "projection.hpp"
#include "tiles.hpp"

namespace cfm {
namespace {

constexpr int64_t CHUNK = 256 / W;  // vectors of channels in one task at most

struct Cut {
    int64_t blocks, chunk, chunks, tiles;
    Cut(const CfmConv& p, int64_t most)
        : blocks((p.D + W - 1) / W), chunk(std::min(blocks, most)), chunks((blocks + chunk - 1) / chunk), tiles((p.L + T - 1) / T) {}
};

int channels_of(const CfmConv& p, int64_t block) { return static_cast<int>(std::min<int64_t>(W, p.D - block * W)); }

// The taps of one vector of channels; the last one meets the token itself.
template <int K>
struct Taps {
    V weight[K], bias;
    Taps(const CfmConv& p, int64_t sk, int64_t channel, int channels) {
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j) weight[j] = load_channels(p.weight + (sk * p.D + channel) * K + j, K, channels);
        bias = p.bias ? load_channels(p.bias + sk * p.D + channel, 1, channels) : V{};
    }
    // Of the tokens whose oldest rows are rows[0], rows[1] and so on.
    template <class Tokens>
    Tokens over(const float* const* rows) const {
        Tokens sum = filled<Tokens>(bias);
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j)
            sum = weight[j] * each<Tokens::SIZE>([&](int i) { return load(rows[i + j]); }) + sum;
        return sum;
    }
    V operator()(const V* x) const {  // x[0 .. K-1], oldest first
        V sum = bias;
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j) sum += weight[j] * x[j];
        return sum;
    }
};

// The tokens at positions first - (K - 1) to first + tokens - 1; zero before the start.
template <int K>
struct Window {
    Tile tile, before[K - 1];
    const float* rows[T + K - 1];

    Window(const CfmConv& p, const float* x0, const int64_t* order, int64_t first, int tokens, int channels) {
        const auto own = read_rows({p.xs.l, p.xs.d, order, first, tokens, channels}, x0, tile, W);  // W: next block
        for (int i = 0; i < tokens; ++i) rows[K - 1 + i] = own[i];
        for (int j = 0; j < K - 1; ++j) {
            const int64_t position = first - (K - 1) + j;
            rows[j] = before[j].at[0];
            if (position >= 0)
                rows[j] = read_rows({p.xs.l, p.xs.d, order, position, 1, channels}, x0, before[j])[0];
            else
                std::memset(before[j].at[0], 0, sizeof(before[j].at[0]));
        }
    }
};

Weights x_proj_at(const CfmConv& p, int64_t sk, int64_t channel) {
    return {p.P ? p.x_proj + sk * p.P * p.D + channel : nullptr, 1, p.D};
}

template <int K>
void forward_block(const CfmConv& p, int64_t s, int64_t k, int64_t b, int64_t channel, int64_t tile, Narrowing& to_projected) {
    const int channels = static_cast<int>(std::min<int64_t>(W, p.D - channel));
    const int64_t first = tile * T;
    const int tokens = static_cast<int>(std::min<int64_t>(T, p.L - first));
    const int64_t* order = p.order ? p.order + k * p.L : nullptr;
    const float* x0 = p.x + s * p.xs.s + b * p.xs.b + channel * p.xs.d;
    const Window<K> window(p, x0, order, first, tokens, channels);
    const Taps<K> taps(p, s * p.K + k, channel, channels);
    Tile copy;
    float* u0 = p.u + ((s * p.K + k) * p.B + b) * p.L * p.D + channel;
    const Place place{p.D, 1, nullptr, first, tokens, channels};
    const auto u = target_rows(place, u0, copy);
    in_packs(tokens, [&](auto pack, int i) {
        const auto v = taps.template over<decltype(pack)>(window.rows + i);
        prefetch_pack<decltype(pack)>(u, i, W);
        const auto activated = v * sigmoid(v);
        store_pack(u, i, activated);
        store_pack(rows_of(copy), i, activated);
    });
    write_rows(place, u0, copy);
    to_projected.add(copy, x_proj_at(p, s * p.K + k, channel), channels);
}

template <int K>
int forward(const CfmConv& p) {
    const Cut cut(p, CHUNK);
    constexpr int64_t STRETCH = 8;  // tiles per task
    const int64_t stretches = (cut.tiles + STRETCH - 1) / STRETCH;
    parallel_for(p.S * p.K * p.B * stretches, static_cast<int>(p.threads), [&](int64_t task) {
        const int64_t stretch = task % stretches, skb = task / stretches;
        const int64_t b = skb % p.B, k = skb / p.B % p.K, s = skb / p.B / p.K;
        Narrowing to_projected(p.P);
        for (int64_t tile = stretch * STRETCH; tile < std::min((stretch + 1) * STRETCH, cut.tiles); ++tile) {
            const int64_t first = tile * T;
            to_projected.begin_tile();
            for (int64_t block = 0; block < cut.blocks; ++block)
                forward_block<K>(p, s, k, b, block * W, tile, to_projected);
            float* out = p.projected + (skb * p.L + first) * p.P;
            to_projected.end_tile(out, p.P, 1, static_cast<int>(std::min<int64_t>(T, p.L - first)), false);
        }
    });
    return 0;
}

// What a block carries from tile to tile: gradients before SiLU of the last K - 1 positions, and the running totals.
template <int K>
struct Carry {
    V late[K - 1 > 0 ? K - 1 : 1];
    V dweight[K], dbias;
};

template <int K>
struct Backward {
    const CfmConv& p;
    int64_t s, k, b;
    Widening& from_projected;
    WeightSums& dx_proj;
    const int64_t* order = p.order ? p.order + k * p.L : nullptr;

    // Adds the gradient of x at one position.
    void put(int64_t position, int64_t channel, int channels, V value) const {
        float* row = p.dx + ((s * p.B + b) * p.L + (order ? order[position] : position)) * p.D + channel;
        if (channels == W) {
            prefetch(row, W);
            store(row, k > 0 ? load(row) + value : value);
            return;
        }
        for (int c = 0; c < channels; ++c) row[c] = k > 0 ? row[c] + value[c] : value[c];
    }

    void tile(Carry<K>& carry, int64_t local, int64_t channel, int64_t index) const {
        const int channels = static_cast<int>(std::min<int64_t>(W, p.D - channel));
        const int64_t first = index * T;
        const int tokens = static_cast<int>(std::min<int64_t>(T, p.L - first));
        const Window<K> window(p, p.x + s * p.xs.s + b * p.xs.b + channel * p.xs.d, order, first, tokens, channels);
        const Taps<K> taps(p, s * p.K + k, channel, channels);
        const int64_t skb = (s * p.K + k) * p.B + b;
        Tile copy, whole, u;
        const auto given = read_rows({p.D, 1, nullptr, first, tokens, channels}, p.du + skb * p.L * p.D + channel, copy);
        const float* dprojected = p.dprojected + (skb * p.L + first) * p.P;
        auto du = given;
        if (p.P) {  // u has a gradient from its projection too
            in_packs(tokens, [&](auto pack, int i) {
                using Tokens = decltype(pack);
                const auto more = from_projected.of<Tokens>(local, dprojected + i * p.P, p.P);
                store_pack(rows_of(whole), i, load_pack<Tokens>(given, i) + more);
            });
            du = {whole.at[0], W};
        }
        V x[K], g[K], dweight[K]{}, dbias{};  // g[j] is K-1-j positions back
#pragma GCC unroll 4
        for (int j = 1; j < K; ++j) x[j] = load(window.rows[j - 1]), g[j] = carry.late[j - 1];
        for (int i = 0; i < tokens; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < K - 1; ++j) x[j] = x[j + 1], g[j] = g[j + 1];
            x[K - 1] = load(window.rows[i + K - 1]);
            prefetch(given[i], W);
            const V v = taps(x), gate = sigmoid(v);
            store(u.at[i], v * gate);
            g[K - 1] = load(du[i]) * gate * (1.0f + v * (1.0f - gate));
#pragma GCC unroll 4
            for (int j = 0; j < K; ++j) dweight[j] += g[K - 1] * x[j];
            dbias += g[K - 1];
            if (first + i >= K - 1) put(first + i - (K - 1), channel, channels, spread(taps, g));
        }
#pragma GCC unroll 4
        for (int j = 1; j < K; ++j) carry.late[j - 1] = g[j];
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j) carry.dweight[j] += dweight[j];
        carry.dbias += dbias;
        dx_proj.add(local, u, dprojected, p.P, tokens);
    }

    // Gradient of x at the oldest of the K positions of g.
    static V spread(const Taps<K>& taps, const V* g) {
        V sum{};
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j) sum += taps.weight[K - 1 - j] * g[j];
        return sum;
    }

    void end(Carry<K>& carry, int64_t channel, float* dweight, float* dbias) const {
        const int channels = static_cast<int>(std::min<int64_t>(W, p.D - channel));
        const Taps<K> taps(p, s * p.K + k, channel, channels);
        V g[K];
#pragma GCC unroll 4
        for (int j = 1; j < K; ++j) g[j] = carry.late[j - 1];
        for (int64_t after = 0; after < K - 1; ++after) {
#pragma GCC unroll 4
            for (int j = 0; j < K - 1; ++j) g[j] = g[j + 1];
            g[K - 1] = V{};
            const int64_t position = p.L + after - (K - 1);
            if (position >= 0) put(position, channel, channels, spread(taps, g));
        }
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j) store_channels(dweight + channel * K + j, K, channels, carry.dweight[j]);
        store_channels(dbias + channel, 1, channels, carry.dbias);
    }
};

void add_up(const float* parts, int64_t many, int64_t size, float* out) {
    for (int64_t i = 0; i < size; ++i) {
        double sum = 0.0;
        for (int64_t m = 0; m < many; ++m) sum += parts[m * size + i];
        out[i] = static_cast<float>(sum);
    }
}

template <int K>
int backward(const CfmConv& p) {
    const int64_t slices = p.S * p.B, sk = p.S * p.K;
    const int64_t wanted = (2 * p.threads + slices - 1) / slices;  // channels do not mix: the cut is free
    const Cut cut(p, p.threads > 1 ? std::clamp<int64_t>((p.D + W - 1) / W / wanted, 1, CHUNK) : CHUNK);
    std::unique_ptr<float[]> totals(new float[p.B * sk * p.D * (K + 1 + p.P)]);
    float *dweight = totals.get(), *dbias = dweight + p.B * sk * p.D * K, *dx_proj = dbias + p.B * sk * p.D;
    parallel_for(slices * cut.chunks, static_cast<int>(p.threads), [&](int64_t task) {
        const int64_t begin = task % cut.chunks * cut.chunk, end = std::min(begin + cut.chunk, cut.blocks);
        const int64_t b = task / cut.chunks % p.B, s = task / cut.chunks / p.B;
        Carry<K> carry[CHUNK];
        Widening from_projected(p.P, cut.chunk);
        WeightSums sums(p.P, cut.chunk);
        for (int64_t k = 0; k < p.K; ++k) {
            const Backward<K> direction{p, s, k, b, from_projected, sums};
            sums.clear();
            for (int64_t block = begin; block < end; ++block) {
                carry[block - begin] = Carry<K>{};
                from_projected.read(block - begin, x_proj_at(p, s * p.K + k, block * W), channels_of(p, block));
            }
            for (int64_t tile = 0; tile < cut.tiles; ++tile)
                for (int64_t block = begin; block < end; ++block)
                    direction.tile(carry[block - begin], block - begin, block * W, tile);
            const int64_t own = b * sk + s * p.K + k;
            for (int64_t block = begin; block < end; ++block) {
                direction.end(carry[block - begin], block * W, dweight + own * p.D * K, dbias + own * p.D);
                sums.store_to(block - begin, dx_proj + own * p.P * p.D + block * W, 1, p.D, channels_of(p, block));
            }
        }
    });
    add_up(dweight, p.B, sk * p.D * K, p.dweight);
    if (p.dbias) add_up(dbias, p.B, sk * p.D, p.dbias);
    add_up(dx_proj, p.B, sk * p.P * p.D, p.dx_proj);
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_conv_forward(const CfmConv* conv) {
    if (cfm::is_empty(*conv)) return cfm::forward_of_nothing(*conv);
    switch (conv->width) {
        case 2: return cfm::guarded_with_order(*conv, cfm::forward<2>);
        case 3: return cfm::guarded_with_order(*conv, cfm::forward<3>);
        case 4: return cfm::guarded_with_order(*conv, cfm::forward<4>);
    }
    return 1;
}

extern "C" int cfm_conv_backward(const CfmConv* conv) {
    if (cfm::is_empty(*conv)) return cfm::backward_of_nothing(*conv);
    switch (conv->width) {
        case 2: return cfm::guarded_with_order(*conv, cfm::backward<2>);
        case 3: return cfm::guarded_with_order(*conv, cfm::backward<3>);
        case 4: return cfm::guarded_with_order(*conv, cfm::backward<4>);
    }
    return 1;
}
