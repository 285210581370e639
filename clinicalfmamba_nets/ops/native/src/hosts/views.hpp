// Tensors of any host as the kernels' structs want them; what a host's user got wrong is told in one line.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "../abi.h"

namespace cfm_host {

// A tensor that somebody else owns: float32, or int64 for an order.
struct View {
    const char* name = "";
    void* data = nullptr;
    int64_t dims = 0;
    int64_t sizes[8] = {}, strides[8] = {};

    const float* f() const { return static_cast<const float*>(data); }
    float* out() const { return static_cast<float*>(data); }
    const int64_t* order() const { return static_cast<const int64_t*>(data); }
    CfmStrides tokens() const { return {strides[0], 0, strides[1], strides[2], strides[3]}; }  // of (S, B, L, D)
    CfmStrides directions() const { return {strides[0], strides[1], strides[2], strides[3], strides[4]}; }
};

inline std::string text(const int64_t* sizes, int64_t dims) {
    std::string out = "(";
    for (int64_t i = 0; i < dims; ++i) out += (i ? ", " : "") + std::to_string(sizes[i]);
    return out + ")";
}

// Refuses a tensor whose shape is not the one that the others ask for.
inline void expect(const char* op, const View& x, const std::vector<int64_t>& wanted) {
    const auto dims = static_cast<int64_t>(wanted.size());
    if (x.dims == dims && !std::memcmp(x.sizes, wanted.data(), sizeof(int64_t) * wanted.size())) return;
    throw std::runtime_error(std::string(op) + ": " + x.name + ": expected " + text(wanted.data(), dims) + ", found " +
                             text(x.sizes, x.dims));
}

inline void expect_dims(const char* op, const View& x, int64_t dims) {
    if (x.dims == dims) return;
    throw std::runtime_error(std::string(op) + ": " + x.name + ": expected " + std::to_string(dims) +
                             " dimensions, found " + text(x.sizes, x.dims));
}

inline void check(const char* op, int code) {
    static const char* const REASONS[] = {"", "the number of states or taps is not one of those compiled", "out of memory",
                                          "order: each row must be a permutation of the token numbers 0 to L - 1",
                                          "this library was built for another processor",
                                          "channels must be multiples of 16, a dilation 1 or more, a scale 1 or 2"};
    if (code) throw std::runtime_error(std::string(op) + ": " + (code > 0 && code < 6 ? REASONS[code] : "failed"));
}

// The kernels' structs; sizes are checked, results are dense. All inputs but x, u, z and projected are dense too.
inline CfmConv conv_of(const View& x, const View& weight, const View& bias, const View& x_proj, const View& order,
                       int64_t threads) {
    const char* op = "permuted_conv1d_silu";
    expect_dims(op, x, 4), expect_dims(op, weight, 4), expect_dims(op, x_proj, 4);
    CfmConv p{};
    p.S = x.sizes[0], p.B = x.sizes[1], p.L = x.sizes[2], p.D = x.sizes[3];
    p.K = weight.sizes[1], p.width = weight.sizes[3], p.P = x_proj.sizes[2], p.threads = threads;
    expect(op, weight, {p.S, p.K, p.D, p.width}), expect(op, bias, {p.S, p.K, p.D});
    expect(op, x_proj, {p.S, p.K, p.P, p.D}), expect(op, order, {p.K, p.L});
    p.x = x.f(), p.xs = x.tokens(), p.weight = weight.f(), p.bias = bias.f(), p.order = order.order();
    p.x_proj = x_proj.f();
    return p;
}

inline CfmScan permuted_scan_of(const View& u, const View& projected, const View& dt_weight, const View& A, const View& D,
                                const View& delta_bias, const View& order, int64_t threads) {
    const char* op = "permuted_selective_scan";
    expect_dims(op, u, 5), expect_dims(op, projected, 5), expect_dims(op, dt_weight, 4), expect_dims(op, A, 4);
    CfmScan p{};
    p.S = u.sizes[0], p.K = u.sizes[1], p.B = u.sizes[2], p.L = u.sizes[3], p.D = u.sizes[4];
    p.G = 1, p.N = A.sizes[3], p.R = dt_weight.sizes[3], p.softplus = 1, p.threads = threads;
    expect(op, projected, {p.S, p.K, p.B, p.L, p.R + 2 * p.N}), expect(op, dt_weight, {p.S, p.K, p.D, p.R});
    expect(op, A, {p.S, p.K, p.D, p.N}), expect(op, D, {p.S, p.K, p.D}), expect(op, delta_bias, {p.S, p.K, p.D});
    expect(op, order, {p.K, p.L});
    if (p.R < 1) throw std::runtime_error("permuted_selective_scan: dt_weight: expected a rank of 1 or more, found 0");
    const int64_t* s = projected.strides;
    p.u = u.f(), p.us = u.directions(), p.A = A.f();
    p.steps = projected.f(), p.Bm = p.steps + p.R, p.Cm = p.Bm + p.N;
    p.stepss = p.Bs = p.Cs = CfmStateStrides{s[0], s[1], s[2], 0, s[3], s[4]};
    p.D_skip = D.f(), p.delta_bias = delta_bias.f(), p.order = order.order(), p.dt_weight = dt_weight.f();
    return p;
}

inline CfmGate gate_of(const View& y, const View& z, const View* weight, const View* bias, double divisor,
                       int64_t threads) {
    const char* op = "gated_norm";
    expect_dims(op, y, 4);
    CfmGate p{};
    p.S = y.sizes[0], p.B = y.sizes[1], p.L = y.sizes[2], p.D = y.sizes[3], p.threads = threads, p.divisor = divisor;
    if (p.D % 16) throw std::runtime_error("gated_norm: y: expected a multiple of 16 channels, found " + std::to_string(p.D));
    expect(op, z, {p.S, p.B, p.L, p.D});
    if (weight) expect(op, *weight, {p.S, p.D});
    if (bias) expect(op, *bias, {p.S, p.D});
    p.y = y.f(), p.z = z.f(), p.zs = z.tokens();
    p.weight = weight && bias ? weight->f() : nullptr, p.bias = weight && bias ? bias->f() : nullptr;
    return p;
}

struct MapsOptions {
    int64_t dilation = 1, scale = 1, fast = 0;
    double slope = 1.0, slope_after = 1.0;
};

// The shape of the result: as x, `scale` times as large, of D channels.
inline std::vector<int64_t> result_of(const CfmMaps& p) {
    std::vector<int64_t> shape{p.B, p.scale * p.planes, p.scale * p.rows, p.scale * p.columns, p.D};
    if (p.dims == 2) shape.erase(shape.begin() + 1);
    return shape;
}

inline CfmMaps maps_of(const View& x, const View& weight, const View& bias, const View* before, const View* after,
                       const View* times, const View* plus, const MapsOptions& options, int64_t threads) {
    const char* op = "conv3x3";
    CfmMaps p{};
    p.dims = x.dims == 5 ? 3 : 2;
    expect_dims(op, x, p.dims + 2), expect_dims(op, weight, p.dims + 2);
    const int64_t* sizes = x.sizes + p.dims;  // of the last axes but one
    p.B = x.sizes[0], p.planes = p.dims == 3 ? x.sizes[1] : 1, p.rows = sizes[-1], p.columns = sizes[0], p.C = sizes[1];
    p.D = weight.sizes[0];
    p.dilation = options.dilation, p.scale = options.scale, p.fast = options.fast, p.threads = threads;
    p.slope = options.slope, p.slope_after = options.slope_after;
    std::vector<int64_t> taps(p.dims + 2, 3);
    taps[0] = p.D, taps[1] = p.C;
    expect(op, weight, taps), expect(op, bias, {p.D});
    if (before) expect(op, *before, {2, p.C});
    if (after) expect(op, *after, {2, p.D});
    for (const View* maps : {times, plus})
        if (maps) expect(op, *maps, result_of(p));
    const auto first = [](const View* maps) { return maps ? maps->f() : nullptr; };
    p.x = x.f(), p.weight = weight.f(), p.bias = bias.f();
    p.before = first(before), p.after = first(after), p.times = first(times), p.plus = first(plus);
    return p;
}

}  // namespace cfm_host
