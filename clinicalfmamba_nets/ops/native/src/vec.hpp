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
// The greater and the lesser of two; b where either is NaN.
#if CFM_WIDTH == 16 && defined(__AVX512F__)
CFM_INLINE V vmax(V a, V b) { return (V)_mm512_max_ps((__m512)a, (__m512)b); }
CFM_INLINE V vmin(V a, V b) { return (V)_mm512_min_ps((__m512)a, (__m512)b); }
#elif CFM_WIDTH == 8 && defined(__AVX__)
CFM_INLINE V vmax(V a, V b) { return (V)_mm256_max_ps((__m256)a, (__m256)b); }
CFM_INLINE V vmin(V a, V b) { return (V)_mm256_min_ps((__m256)a, (__m256)b); }
#elif CFM_WIDTH == 4 && defined(__SSE__)
CFM_INLINE V vmax(V a, V b) { return (V)_mm_max_ps((__m128)a, (__m128)b); }
CFM_INLINE V vmin(V a, V b) { return (V)_mm_min_ps((__m128)a, (__m128)b); }
#else
CFM_INLINE V vmax(V a, V b) { return a > b ? a : b; }
CFM_INLINE V vmin(V a, V b) { return a < b ? a : b; }
#endif
CFM_INLINE V vsqrt(V a) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    return (V)_mm512_sqrt_ps((__m512)a);
#elif CFM_WIDTH == 8 && defined(__AVX__)
    return (V)_mm256_sqrt_ps((__m256)a);
#elif CFM_WIDTH == 4 && defined(__SSE__)
    return (V)_mm_sqrt_ps((__m128)a);
#else
    for (int i = 0; i < W; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
#endif
}
CFM_INLINE V vabs(V a) { return reinterpret_cast<V>(reinterpret_cast<I>(a) & 0x7fffffff); }

// K vectors on which every operation is done one after the other: independent work that hides the operations' latency.
template <int K>
struct Pack {
    static constexpr int SIZE = K;
    V v[K];
};

template <int K, class Function>
CFM_INLINE Pack<K> each(Function function) {
    Pack<K> out;
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) out.v[i] = function(i);
    return out;
}

template <class P>
CFM_INLINE P filled(V x) {
    return each<P::SIZE>([&](int) { return x; });
}

#define CFM_OPERATOR(op)                                                                                          \
    template <int K>                                                                                              \
    CFM_INLINE Pack<K> operator op(Pack<K> a, Pack<K> b) {                                                        \
        return each<K>([&](int i) __attribute__((always_inline)) { return a.v[i] op b.v[i]; });                   \
    }                                                                                                             \
    template <int K, class Scalar>                                                                                \
    CFM_INLINE Pack<K> operator op(Pack<K> a, Scalar b) {                                                         \
        return each<K>([&](int i) __attribute__((always_inline)) { return a.v[i] op b; });                        \
    }                                                                                                             \
    template <int K, class Scalar>                                                                                \
    CFM_INLINE Pack<K> operator op(Scalar a, Pack<K> b) {                                                         \
        return each<K>([&](int i) __attribute__((always_inline)) { return a op b.v[i]; });                        \
    }
CFM_OPERATOR(+)
CFM_OPERATOR(-)
CFM_OPERATOR(*)
#undef CFM_OPERATOR

// The same function of one vector, for each vector of a pack.
#define CFM_EACH(name)                                                                                            \
    template <int K, class... More>                                                                               \
    CFM_INLINE Pack<K> name(Pack<K> a, More... more) {                                                            \
        return each<K>([&](int i) __attribute__((always_inline)) { return name(a.v[i], of(more, i)...); });       \
    }
CFM_INLINE float of(float x, int) { return x; }
CFM_INLINE V of(V x, int) { return x; }
template <int K>
CFM_INLINE V of(const Pack<K>& x, int i) {
    return x.v[i];
}

constexpr float ROUND_MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits

CFM_INLINE V scale_by_power(V p, V n, V magic_n) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    (void)magic_n;
    return (V)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    (void)n;
    return reinterpret_cast<V>(reinterpret_cast<I>(p) + (reinterpret_cast<I>(magic_n) << 23));
#endif
}

CFM_INLINE V clamp_exponent(V x) { return vmin(splat(126.0f), vmax(splat(-125.0f), x)); }

// 1 / d for finite d >= 1.
CFM_INLINE V reciprocal(V d) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    V r = (V)_mm512_rcp14_ps((__m512)d);
    return r + r * (1.0f - d * r);
#else
    return 1.0f / d;
#endif
}

CFM_INLINE V positive_part(V v) { return vmax(splat(0.0f), v); }
CFM_INLINE V at_least(V v, float least) { return vmax(splat(least), v); }
CFM_INLINE V if_negative(V v, V a, V b) { return v < 0.0f ? a : b; }
CFM_EACH(vabs)
CFM_EACH(scale_by_power)
CFM_EACH(clamp_exponent)
CFM_EACH(reciprocal)
CFM_EACH(positive_part)
CFM_EACH(at_least)
CFM_EACH(if_negative)
#undef CFM_EACH

// From here on X is a vector or a pack.

// 2^r for r in [-0.5, 0.5]; written as 1 + r q(r), so that it is most accurate where the decay is slow.
template <class X>
CFM_INLINE X exp2_fraction(X r) {
    X q = r * 1.3333539245650172e-3f + 9.666245430707932e-3f;
    q = q * r + 5.550500378012657e-2f;
    q = q * r + 0.24022351205348969f;
    q = q * r + 0.6931471228599548f;
    return q * r + 1.0f;
}

// 2^(a * b) in one reduction: the product is never rounded where the machine has FMA.
template <class A, class B>
CFM_INLINE auto exp2_product(A a, B b) {
#if CFM_WIDTH == 16 && defined(__AVX512F__)
    const auto t = a * b + ROUND_MAGIC;
    const auto n = t - ROUND_MAGIC;
    const auto r = a * b - n;
#else
    const auto x = clamp_exponent(a * b);
    const auto t = x + ROUND_MAGIC;
    const auto n = t - ROUND_MAGIC;
    const auto r = x - n;
#endif
    return scale_by_power(exp2_fraction(r), n, t);
}

CFM_INLINE V exp2_vector(V x) { return exp2_product(x, splat(1.0f)); }

// log(1 + e) for e in [0, 1]: e times a minimax polynomial, relative error 3e-8.
template <class X>
CFM_INLINE X log1p_unit(X e) {
    X q = e * 5.2326940931379795e-3f - 2.9505237936973572e-2f;
    q = q * e + 7.822595536708832e-2f;
    q = q * e - 0.13663245737552643f;
    q = q * e + 0.19106006622314453f;
    q = q * e - 0.2484298199415207f;
    q = q * e + 0.3331909775733948f;
    q = q * e - 0.4999949336051941f;
    q = q * e + 0.9999999403953552f;
    return q * e;
}

// exp(-|v|), the common part of softplus and its derivative.
template <class X>
CFM_INLINE X exp_minus_abs(X v) {
    return exp2_product(vabs(v), splat(-LOG2E));
}

template <class X>
CFM_INLINE X softplus(X v) {
    return positive_part(v) + log1p_unit(exp_minus_abs(v));
}

// 1 / (1 + exp(-v)); never below 2^-126, which SiLU cannot tell from 0.
template <class X>
CFM_INLINE X sigmoid(X v) {
    return reciprocal(1.0f + exp2_product(at_least(v, -87.0f), splat(-LOG2E)));
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

template <int D>
CFM_INLINE V fold_two(V a, V b) {
    return lanes_own<D>(a, b, Lanes{}) + lanes_crossed<D>(a, b, Lanes{});
}

// Sums within M vectors, a power of two up to W: lanes l W / M to (l + 1) W / M of the result add up to the lanes of
// v[l]; v is used up.
template <int M, int D = W / 2>
CFM_INLINE V fold(V* v) {
    if constexpr (M > 1) {
#pragma GCC unroll 8
        for (int i = 0; i < M / 2; ++i) v[i] = fold_two<D>(v[i], v[i + M / 2]);
        return fold<M / 2, D / 2>(v);
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
