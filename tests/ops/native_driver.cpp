// Calls every kernel on shapes with every tail, on buffers of exactly the size needed, for the sanitizers to watch.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "abi.h"

namespace {

struct Random {
    uint32_t state = 1;
    float operator()() {
        state = state * 1664525u + 1013904223u;
        return static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
    }
} uniform;

// A heap block of exactly n floats.
struct Buffer {
    std::unique_ptr<float[]> data;
    explicit Buffer(int64_t n, float scale = 1.0f) : data(new float[n]) {
        for (int64_t i = 0; i < n; ++i) data[i] = scale * uniform();
    }
    operator float*() const { return data.get(); }
};

std::vector<int64_t> orders(int64_t K, int64_t L) {
    std::vector<int64_t> order(K * L);
    for (int64_t k = 0; k < K; ++k)
        for (int64_t l = 0; l < L; ++l) order[k * L + l] = k % 2 ? L - 1 - l : (l + k) % L;
    return order;
}

int check(int code, const char* what) {
    if (code) std::printf("%s returned %d\n", what, code);
    return code;
}

int scan_tokens(int64_t S, int64_t K, int64_t B, int64_t L, int64_t D, int64_t N, int64_t threads) {
    const int64_t size = S * K * B * L * D, shared = S * K * B * L * N, width = cfm_vector_width();
    const int64_t tiles = (L + cfm_tile_tokens() - 1) / cfm_tile_tokens(), blocks = (D + width - 1) / width;
    Buffer u(size), delta(size), A(S * K * D * N, -4.0f), Bm(shared), Cm(shared), skip(S * K * D), bias(S * K * D);
    Buffer states(S * K * B * tiles * blocks * N * width), y(S * B * L * D), dy(S * B * L * D);
    Buffer du(size), ddelta(size), dA(S * K * D * N), dD(S * K * D), dbias(S * K * D), dB(shared), dC(shared);
    const std::vector<int64_t> order = orders(K, L);
    CfmScan p{};
    p.S = S, p.K = K, p.B = B, p.G = 1, p.L = L, p.D = D, p.N = N, p.softplus = 1, p.threads = threads;
    p.u = u, p.delta = delta, p.A = A, p.Bm = Bm, p.Cm = Cm, p.D_skip = skip, p.delta_bias = bias;
    p.us = p.deltas = p.dus = p.ddeltas = {K * B * L * D, B * L * D, L * D, D, 1};
    p.Bs = p.Cs = p.dBs = p.dCs = {K * B * L * N, B * L * N, L * N, 0, N, 1};
    p.order = order.data(), p.states = states, p.y = y, p.dy = dy;
    p.ys = p.dys = {B * L * D, 0, L * D, D, 1};
    p.du = du, p.ddelta = ddelta, p.dA = dA, p.dD_skip = dD, p.ddelta_bias = dbias, p.dB = dB, p.dC = dC;
    return check(cfm_scan_forward(&p), "scan forward") | check(cfm_scan_backward(&p), "scan backward");
}

// Time steps of low rank, projected together with B and C.
int scan_steps(int64_t S, int64_t K, int64_t B, int64_t L, int64_t D, int64_t N, int64_t R, int64_t threads) {
    const int64_t size = S * K * B * L * D, row = R + 2 * N, rows = S * K * B * L * row, width = cfm_vector_width();
    const int64_t tiles = (L + cfm_tile_tokens() - 1) / cfm_tile_tokens(), blocks = (D + width - 1) / width;
    Buffer u(size), projected(rows), A(S * K * D * N, -4.0f), dt_weight(S * K * D * R), skip(S * K * D), bias(S * K * D);
    Buffer states(S * K * B * tiles * blocks * N * width), y(S * B * L * D), dy(S * B * L * D), du(size), dprojected(rows);
    Buffer dA(S * K * D * N), ddt_weight(S * K * D * R), dD(S * K * D), dbias(S * K * D);
    const std::vector<int64_t> order = orders(K, L);
    CfmScan p{};
    p.S = S, p.K = K, p.B = B, p.G = 1, p.L = L, p.D = D, p.N = N, p.R = R, p.softplus = 1, p.threads = threads;
    p.u = u, p.steps = projected, p.Bm = projected + R, p.Cm = projected + R + N, p.dt_weight = dt_weight;
    p.A = A, p.D_skip = skip, p.delta_bias = bias, p.order = order.data(), p.states = states, p.y = y, p.dy = dy;
    p.us = p.dus = {K * B * L * D, B * L * D, L * D, D, 1};
    p.Bs = p.Cs = p.stepss = p.dBs = p.dCs = p.dstepss = {K * B * L * row, B * L * row, L * row, 0, row, 1};
    p.ys = p.dys = {B * L * D, 0, L * D, D, 1};
    p.du = du, p.dsteps = dprojected, p.dB = dprojected + R, p.dC = dprojected + R + N, p.ddt_weight = ddt_weight;
    p.dA = dA, p.dD_skip = dD, p.ddelta_bias = dbias;
    return check(cfm_scan_forward(&p), "low-rank forward") | check(cfm_scan_backward(&p), "low-rank backward");
}

int scan_channels(int64_t B, int64_t G, int64_t L, int64_t D, int64_t N, int64_t threads) {
    const int64_t size = B * D * L, shared = B * G * N * L, width = cfm_vector_width();
    const int64_t tiles = (L + cfm_tile_tokens() - 1) / cfm_tile_tokens(), blocks = G * ((D / G + width - 1) / width);
    Buffer u(size), delta(size), z(size), A(D * N, -4.0f), Bm(shared), Cm(shared), skip(D);
    Buffer states(B * tiles * blocks * N * width), y(size), last(B * D * N), dy(size), dlast(B * D * N);
    Buffer du(size), ddelta(size), dz(size), dA(D * N), dD(D), dB(shared), dC(shared);
    CfmScan p{};
    p.S = p.K = 1, p.B = B, p.G = G, p.L = L, p.D = D, p.N = N, p.threads = threads;
    p.u = u, p.delta = delta, p.z = z, p.A = A, p.Bm = Bm, p.Cm = Cm, p.D_skip = skip, p.states = states;
    p.us = p.deltas = p.zs = p.ys = p.dys = p.dus = p.ddeltas = p.dzs = {0, 0, D * L, 1, L};
    p.Bs = p.Cs = p.dBs = p.dCs = {0, 0, G * N * L, N * L, 1, L};
    p.y = y, p.last_state = last, p.dy = dy, p.dlast_state = dlast;
    p.du = du, p.ddelta = ddelta, p.dz = dz, p.dA = dA, p.dD_skip = dD, p.dB = dB, p.dC = dC;
    return check(cfm_scan_forward(&p), "gated forward") | check(cfm_scan_backward(&p), "gated backward");
}

int convolve(int64_t S, int64_t K, int64_t B, int64_t L, int64_t D, int64_t width, int64_t P, int64_t threads) {
    Buffer x(S * B * L * D), weight(S * K * D * width), bias(S * K * D), u(S * K * B * L * D), du(S * K * B * L * D);
    Buffer dx(S * B * L * D), dweight(S * K * D * width), dbias(S * K * D);
    Buffer x_proj(S * K * P * D), projected(S * K * B * L * P), dprojected(S * K * B * L * P), dx_proj(S * K * P * D);
    std::vector<int64_t> order = orders(K, L);
    CfmConv p{};
    p.S = S, p.K = K, p.B = B, p.L = L, p.D = D, p.width = width, p.threads = threads;
    p.x = x, p.xs = {B * L * D, 0, L * D, D, 1}, p.weight = weight, p.bias = bias, p.order = order.data();
    p.u = u, p.du = du, p.dx = dx, p.dweight = dweight, p.dbias = dbias, p.P = P;
    if (P) p.x_proj = x_proj, p.projected = projected, p.dprojected = dprojected, p.dx_proj = dx_proj;
    int bad = check(cfm_conv_forward(&p), "conv forward") | check(cfm_conv_backward(&p), "conv backward");
    order[0] = L;
    if (cfm_conv_forward(&p) != 3) bad |= check(4, "conv forward with a wrong order");
    return bad;
}

int gate(int64_t S, int64_t B, int64_t L, int64_t D, bool normalized, int64_t threads) {
    const int64_t size = S * B * L * D;
    Buffer y(size), z(2 * size), weight(S * D), bias(S * D), out(size), dout(size), dy(size), dz(size);
    Buffer dweight(S * D), dbias(S * D);
    CfmGate p{};
    p.S = S, p.B = B, p.L = L, p.D = D, p.threads = threads, p.divisor = 3.0;
    p.y = y, p.z = z + D, p.zs = {2 * B * L * D, 0, 2 * L * D, 2 * D, 1}, p.out = out, p.dout = dout, p.dy = dy, p.dz = dz;
    if (normalized) p.weight = weight, p.bias = bias, p.dweight = dweight, p.dbias = dbias;
    return check(cfm_gate_forward(&p), "gate forward") | check(cfm_gate_backward(&p), "gate backward");
}

int maps(int64_t rows, int64_t columns, int64_t D, int64_t dilation, int64_t scale, int64_t fast, int64_t threads) {
    const int64_t B = 2, C = 16, size = B * scale * rows * scale * columns * D;
    Buffer x(B * rows * columns * C), weight(9 * C * D), bias(D), before(2 * C), after(2 * D), times(size), plus(size), out(size);
    CfmMaps p{};
    p.B = B, p.rows = rows, p.columns = columns, p.C = C, p.D = D, p.dilation = dilation, p.scale = scale, p.fast = fast;
    p.threads = threads, p.slope = 0.2, p.slope_after = 0.5, p.x = x, p.weight = weight, p.bias = bias, p.out = out;
    const int bad = check(cfm_maps_forward(&p), "maps forward");
    p.before = before, p.after = after, p.times = times, p.plus = plus;
    return bad | check(cfm_maps_forward(&p), "maps forward");
}

int mix(int64_t rows, int64_t columns, double lesions, double information, int64_t threads) {
    const int64_t B = 2, size = B * rows * columns;
    Buffer pair(2 * size), share(size), least(size), most(size), slope(size);
    for (int64_t i = 0; i < size; ++i) share[i] = 0.5f, least[i] = 0.0f, most[i] = 1.0f;
    CfmMix p{};
    p.B = B, p.rows = rows, p.columns = columns, p.steps = 2, p.threads = threads;
    p.rate = 0.1, p.overshoot = p.texture = p.structure = p.correlation = p.brightness = 0.2;
    p.information = p.structure = information, p.lesions = lesions;
    p.pair = pair, p.share = share, p.least = least, p.most = most, p.slope = slope;
    return check(cfm_mix_refine(&p), "mix refine") | check(cfm_mix_slope(&p), "mix slope");
}

}  // namespace

int main() {
    int bad = 0;
    for (int64_t threads : {1, 3})
        for (int64_t rows : {16, 40})
            for (int64_t columns : {16, 24, 72})
                for (double weight : {0.0, 1.0}) bad |= mix(rows, columns, weight, 1.0 - weight * weight / 2.0, threads);
    bad |= mix(24, 32, 1.0, 0.0, 1);
    for (int64_t threads : {1, 3})
        for (int64_t rows : {1, 7})
            for (int64_t columns : {1, 2, 13})
                for (int64_t D : {16, 32, 48}) {
                    bad |= maps(rows, columns, D, 1, 2, 0, threads);
                    for (int64_t dilation : {1, 3}) {
                        bad |= maps(rows, columns, D, dilation, 1, 0, threads);
                        bad |= maps(rows, columns, D, dilation, 1, 1, threads);
                    }
                }
    for (int64_t threads : {1, 3})
        for (int64_t N : {4, 8, 16})
            for (int64_t L : {1, 15, 16, 33})
                for (int64_t D : {1, 16, 37, 272}) {
                    bad |= scan_tokens(2, 3, 2, L, D, N, threads);
                    bad |= scan_tokens(1, 1, 1, L, D, N, threads);
                    bad |= L % 2 ? scan_steps(2, 3, 2, L, D, N, 8, threads) : scan_steps(1, 1, 1, L, D, N, 3, threads);
                    bad |= scan_channels(2, 1, L, D, N, threads);
                    if (D == 272) bad |= scan_channels(1, 2, L, D, N, threads);
                    if (N == 4)
                        for (int64_t width : {2, 3, 4}) bad |= convolve(2, 3, 2, L, D, width, 10 * (width - 2), threads);
                    if (N == 4 && D % 16 == 0)
                        for (bool normalized : {false, true}) bad |= gate(2, 2, L, D, normalized, threads);
                }
    std::puts(bad ? "failed" : "done");
    return bad;
}
