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

int convolve(int64_t S, int64_t K, int64_t B, int64_t L, int64_t D, int64_t width, int64_t threads) {
    Buffer x(S * B * L * D), weight(S * K * D * width), bias(S * K * D), u(S * K * B * L * D), du(S * K * B * L * D);
    Buffer dx(S * B * L * D), dweight(S * K * D * width), dbias(S * K * D);
    std::vector<int64_t> order = orders(K, L);
    CfmConv p{};
    p.S = S, p.K = K, p.B = B, p.L = L, p.D = D, p.width = width, p.threads = threads;
    p.x = x, p.xs = {B * L * D, 0, L * D, D, 1}, p.weight = weight, p.bias = bias, p.order = order.data();
    p.u = u, p.du = du, p.dx = dx, p.dweight = dweight, p.dbias = dbias;
    int bad = check(cfm_conv_forward(&p), "conv forward") | check(cfm_conv_backward(&p), "conv backward");
    order[0] = L;
    if (cfm_conv_forward(&p) != 3) bad |= check(4, "conv forward with a wrong order");
    return bad;
}

}  // namespace

int main() {
    int bad = 0;
    for (int64_t threads : {1, 3})
        for (int64_t N : {4, 8, 16})
            for (int64_t L : {1, 15, 16, 33})
                for (int64_t D : {1, 16, 37, 272}) {
                    bad |= scan_tokens(2, 3, 2, L, D, N, threads);
                    bad |= scan_tokens(1, 1, 1, L, D, N, threads);
                    bad |= scan_channels(2, 1, L, D, N, threads);
                    if (D == 272) bad |= scan_channels(1, 2, L, D, N, threads);
                    if (N == 4)
                        for (int64_t width : {2, 3, 4}) bad |= convolve(2, 3, 2, L, D, width, threads);
                }
    std::puts(bad ? "failed" : "done");
    return bad;
}
