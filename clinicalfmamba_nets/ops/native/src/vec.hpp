// Vectors of CFM_WIDTH floats and the few elementary functions the kernels need.
// Written with the vector extensions of GCC and Clang, so that one text serves x86 and ARM.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#ifndef CFM_WIDTH
#define CFM_WIDTH 4
#endif

#define CFM_INLINE static inline __attribute__((always_inline))

namespace cfm {

constexpr int W = CFM_WIDTH;      // channels per vector
constexpr int T = 16;             // tokens per tile
constexpr float LOG2E = 1.44269504088896341f;
constexpr float LN2 = 0.693147180559945309f;

typedef float V __attribute__((vector_size(W * 4)));
typedef int32_t I __attribute__((vector_size(W * 4)));
typedef float VUnaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));

CFM_INLINE V load(const float* p) { return *reinterpret_cast<const VUnaligned*>(p); }
CFM_INLINE void store(float* p, V v) { *reinterpret_cast<VUnaligned*>(p) = v; }
// Asks for the vector that is `ahead` floats from a row: the same row of the tile to come.
CFM_INLINE void prefetch(const float* row, int64_t ahead) { __builtin_prefetch(row + ahead); }
CFM_INLINE V splat(float x) { return x - V{}; }
CFM_INLINE V vmax(V a, V b) { return a > b ? a : b; }  // b where either is NaN
CFM_INLINE V vabs(V a) { return reinterpret_cast<V>(reinterpret_cast<I>(a) & 0x7fffffff); }

constexpr float ROUND_MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits

// 2^r for r in [-0.5, 0.5]; written as 1 + r q(r), so that it is most accurate where the decay is slow.
CFM_INLINE V exp2_fraction(V r) {
    V q = r * 1.3333539245650172e-3f + 9.666245430707932e-3f;
    q = q * r + 5.550500378012657e-2f;
    q = q * r + 0.24022351205348969f;
    q = q * r + 0.6931471228599548f;
    return q * r + 1.0f;
}

CFM_INLINE V scale_by_power(V p, V n, V magic_n) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    (void)magic_n;
    return (V)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    (void)n;
    return reinterpret_cast<V>(reinterpret_cast<I>(p) + (reinterpret_cast<I>(magic_n) << 23));
#endif
}

CFM_INLINE V clamp_exponent(V x) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    return x;
#else
    x = -125.0f > x ? splat(-125.0f) : x;
    return x > 126.0f ? splat(126.0f) : x;
#endif
}

// 2^(a * b) in one reduction: the product is never rounded where the machine has FMA.
CFM_INLINE V exp2_product(V a, V b) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    V t = a * b + ROUND_MAGIC;
    V n = t - ROUND_MAGIC;
    V r = a * b - n;
#else
    V x = clamp_exponent(a * b);
    V t = x + ROUND_MAGIC;
    V n = t - ROUND_MAGIC;
    V r = x - n;
#endif
    return scale_by_power(exp2_fraction(r), n, t);
}

CFM_INLINE V exp2_vector(V x) { return exp2_product(x, splat(1.0f)); }

// log(1 + e) for e in [0, 1]: e times a minimax polynomial, relative error 3e-8.
CFM_INLINE V log1p_unit(V e) {
    V q = e * 5.2326940931379795e-3f - 2.9505237936973572e-2f;
    q = q * e + 7.822595536708832e-2f;
    q = q * e - 0.13663245737552643f;
    q = q * e + 0.19106006622314453f;
    q = q * e - 0.2484298199415207f;
    q = q * e + 0.3331909775733948f;
    q = q * e - 0.4999949336051941f;
    q = q * e + 0.9999999403953552f;
    return q * e;
}

// 1 / d for finite d >= 1.
CFM_INLINE V reciprocal(V d) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    V r = (V)_mm512_rcp14_ps((__m512)d);
    return r + r * (1.0f - d * r);
#else
    return 1.0f / d;
#endif
}

// exp(-|v|), the common part of softplus and its derivative.
CFM_INLINE V exp_minus_abs(V v) { return exp2_vector(vabs(v) * -LOG2E); }

CFM_INLINE V softplus(V v) { return vmax(splat(0.0f), v) + log1p_unit(exp_minus_abs(v)); }

// 1 / (1 + exp(-v)); never below 2^-126, which SiLU cannot tell from 0.
CFM_INLINE V sigmoid(V v) {
    const V bounded = v < -87.0f ? splat(-87.0f) : v;
    return reciprocal(1.0f + exp2_product(bounded, splat(-LOG2E)));
}

#if defined(__clang__) || __GNUC__ >= 12
#define CFM_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CFM_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, I{__VA_ARGS__})
#endif

// Lanes l of the results, for the bit D of l clear | set:  own: a[l] | b[l]   crossed: a[l^D] | b[l^D]
//                                                          low: a[l] | b[l^D]    high: a[l^D] | b[l]
template <int D, int... L>
CFM_INLINE V lanes_own(V a, V b, std::integer_sequence<int, L...>) {
    return CFM_SHUFFLE(a, b, (L & D ? W + L : L)...);
}
template <int D, int... L>
CFM_INLINE V lanes_crossed(V a, V b, std::integer_sequence<int, L...>) {
    return CFM_SHUFFLE(a, b, (L & D ? W + (L ^ D) : (L ^ D))...);
}
template <int D, int... L>
CFM_INLINE V lanes_low(V a, V b, std::integer_sequence<int, L...>) {
    return CFM_SHUFFLE(a, b, (L & D ? W + (L ^ D) : L)...);
}
template <int D, int... L>
CFM_INLINE V lanes_high(V a, V b, std::integer_sequence<int, L...>) {
    return CFM_SHUFFLE(a, b, (L & D ? W + L : (L ^ D))...);
}
using Lanes = std::make_integer_sequence<int, W>;

// Lane l of the result is the sum over the lanes of v[l]; v is used up.
template <int D = W / 2>
CFM_INLINE V sum_each(V* v) {
    if constexpr (D > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < D; ++i) {
            const V a = v[i], b = v[i + D];
            v[i] = lanes_own<D>(a, b, Lanes{}) + lanes_crossed<D>(a, b, Lanes{});
        }
        return sum_each<D / 2>(v);
    }
    return v[0];
}

// Transposes the W x W floats held in v.
template <int D = W / 2>
CFM_INLINE void transpose(V* v) {
    if constexpr (D > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) {
            if (i & D) continue;
            const V a = v[i], b = v[i + D];
            v[i] = lanes_low<D>(a, b, Lanes{});
            v[i + D] = lanes_high<D>(a, b, Lanes{});
        }
        transpose<D / 2>(v);
    }
}

}  // namespace cfm
