// One library with the kernels for several kinds of processor. build.py compiles the kernels once for each, under names
// of their own (cfm_scan_forward_x86_64_v3), and names them in CFM_VARIANTS, best first; the plain names are here.
#include <cstdlib>
#include <cstring>

#include "../abi.h"

extern "C" {
#define VARIANT(v)                                                                               \
    int cfm_scan_forward_##v(const CfmScan*);                                                    \
    int cfm_scan_backward_##v(const CfmScan*);                                                   \
    int cfm_conv_forward_##v(const CfmConv*);                                                    \
    int cfm_conv_backward_##v(const CfmConv*);                                                   \
    int cfm_gate_forward_##v(const CfmGate*);                                                    \
    int cfm_gate_backward_##v(const CfmGate*);                                                   \
    int cfm_maps_forward_##v(const CfmMaps*);                                                    \
    int cfm_mix_refine_##v(const CfmMix*);                                                       \
    int cfm_mix_slope_##v(const CfmMix*);                                                        \
    int64_t cfm_vector_width_##v(void);                                                          \
    int64_t cfm_tile_tokens_##v(void);                                                           \
    int64_t cfm_peak_fma_##v(int64_t, float*);                                                   \
    void cfm_exp_rate_##v(const float*, float*, int64_t, int64_t);                               \
    void cfm_triad_##v(const float*, float*, float, int64_t);
CFM_VARIANTS
#undef VARIANT
}

namespace {

struct Kernels {
    const char* name;
    bool (*runs)();
    int (*scan_forward)(const CfmScan*);
    int (*scan_backward)(const CfmScan*);
    int (*conv_forward)(const CfmConv*);
    int (*conv_backward)(const CfmConv*);
    int (*gate_forward)(const CfmGate*);
    int (*gate_backward)(const CfmGate*);
    int (*maps_forward)(const CfmMaps*);
    int (*mix_refine)(const CfmMix*);
    int (*mix_slope)(const CfmMix*);
    int64_t (*vector_width)();
    int64_t (*tile_tokens)();
    int64_t (*peak_fma)(int64_t, float*);
    void (*exp_rate)(const float*, float*, int64_t, int64_t);
    void (*triad)(const float*, float*, float, int64_t);
};

#if defined(__x86_64__)
// torch's own switch for its kernels: "default" stands for SSE, "avx2" leaves AVX-512 out.
[[maybe_unused]] bool allowed(const char* least, const char* also) {
    const char* asked = std::getenv("ATEN_CPU_CAPABILITY");
    return !asked || !std::strcmp(asked, least) || !std::strcmp(asked, also) ||
           (std::strcmp(asked, "default") && std::strcmp(asked, "avx2"));
}

[[maybe_unused]] bool runs_x86_64_v4() {
    return allowed("avx512", "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
[[maybe_unused]] bool runs_x86_64_v3() {
    return allowed("avx512", "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
[[maybe_unused]] bool runs_x86_64_v2() { return __builtin_cpu_supports("sse4.2"); }
#endif
[[maybe_unused]] bool runs_generic() { return true; }

const Kernels KERNELS[] = {
#define VARIANT(v)                                                                                                 \
    {#v,                    runs_##v,             cfm_scan_forward_##v,  cfm_scan_backward_##v, cfm_conv_forward_##v, \
     cfm_conv_backward_##v, cfm_gate_forward_##v, cfm_gate_backward_##v, cfm_maps_forward_##v,  cfm_mix_refine_##v,   \
     cfm_mix_slope_##v,     cfm_vector_width_##v, cfm_tile_tokens_##v,   cfm_peak_fma_##v,      cfm_exp_rate_##v,     \
     cfm_triad_##v},
    CFM_VARIANTS
#undef VARIANT
};

const Kernels* choose() {
    for (const Kernels& kernels : KERNELS)
        if (kernels.runs()) return &kernels;
    return nullptr;
}

const Kernels* chosen() {
    static const Kernels* const kernels = choose();
    return kernels;
}

}  // namespace

extern "C" {
const char* cfm_variant(void) { return chosen() ? chosen()->name : nullptr; }
int cfm_scan_forward(const CfmScan* scan) { return chosen() ? chosen()->scan_forward(scan) : 4; }
int cfm_scan_backward(const CfmScan* scan) { return chosen() ? chosen()->scan_backward(scan) : 4; }
int cfm_conv_forward(const CfmConv* conv) { return chosen() ? chosen()->conv_forward(conv) : 4; }
int cfm_conv_backward(const CfmConv* conv) { return chosen() ? chosen()->conv_backward(conv) : 4; }
int cfm_gate_forward(const CfmGate* gate) { return chosen() ? chosen()->gate_forward(gate) : 4; }
int cfm_gate_backward(const CfmGate* gate) { return chosen() ? chosen()->gate_backward(gate) : 4; }
int cfm_maps_forward(const CfmMaps* maps) { return chosen() ? chosen()->maps_forward(maps) : 4; }
int cfm_mix_refine(const CfmMix* mix) { return chosen() ? chosen()->mix_refine(mix) : 4; }
int cfm_mix_slope(const CfmMix* mix) { return chosen() ? chosen()->mix_slope(mix) : 4; }
int64_t cfm_vector_width(void) { return chosen() ? chosen()->vector_width() : 0; }
int64_t cfm_tile_tokens(void) { return chosen() ? chosen()->tile_tokens() : 0; }
int64_t cfm_peak_fma(int64_t rounds, float* out) { return chosen() ? chosen()->peak_fma(rounds, out) : 0; }
void cfm_exp_rate(const float* x, float* y, int64_t n, int64_t rounds) {
    if (chosen()) chosen()->exp_rate(x, y, n, rounds);
}
void cfm_triad(const float* x, float* y, float s, int64_t n) {
    if (chosen()) chosen()->triad(x, y, s, n);
}
}
