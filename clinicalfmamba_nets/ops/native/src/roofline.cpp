// What this machine can do at most; timed from benchmarks/roofline.py.
#include "abi.h"
#include "vec.hpp"

// `rounds` times 24 independent chains of 8 fused multiply-adds; returns how many were done, over all lanes.
extern "C" int64_t cfm_peak_fma(int64_t rounds, float* out) {
    using namespace cfm;
    constexpr int CHAINS = W >= 16 ? 24 : 10;
    V sum[CHAINS];
    for (int c = 0; c < CHAINS; ++c) sum[c] = splat(static_cast<float>(c));
    V factor = splat(0.999f), term = splat(1e-3f);
    for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 8
        for (int step = 0; step < 8; ++step)
#pragma GCC unroll 24
            for (int c = 0; c < CHAINS; ++c) sum[c] = sum[c] * factor + term;
    }
    V total{};
    for (int c = 0; c < CHAINS; ++c) total += sum[c];
    store(out, total);
    return rounds * 8 * CHAINS * W;
}

// y = 2^x over n floats (a multiple of the vector width), `rounds` times.
extern "C" void cfm_exp_rate(const float* x, float* y, int64_t n, int64_t rounds) {
    for (int64_t r = 0; r < rounds; ++r) {
        asm volatile("" : : "r"(x), "r"(y) : "memory");
        for (int64_t i = 0; i < n; i += cfm::W) cfm::store(y + i, cfm::exp2_vector(cfm::load(x + i)));
    }
}

// y = x + s y over n floats: 12 bytes of traffic for each.
extern "C" void cfm_triad(const float* x, float* y, float s, int64_t n) {
    for (int64_t i = 0; i < n; i += cfm::W) cfm::store(y + i, cfm::load(x + i) + s * cfm::load(y + i));
}
