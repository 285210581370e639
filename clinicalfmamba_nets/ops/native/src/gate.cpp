// What a Mamba layer does between its scans and its output: v = y SiLU(z) / divisor, then layer normalization of v.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "order.hpp"
#include "parallel.hpp"
#include "tiles.hpp"

namespace cfm {
namespace {

constexpr int64_t STRETCH = 64;  // tokens in one task
constexpr double EPS = 1e-5;

float sum_of_lanes(V v) {
    alignas(64) float lanes[W];
    store(lanes, v);
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

template <int K>
V total(const Pack<K>& pack) {
    V sum = pack.v[0];
    for (int i = 1; i < K; ++i) sum += pack.v[i];
    return sum;
}

// A row of D floats, vector by vector.
template <class Float>
Rows<Float> vectors(Float* row) {
    return {row, W};
}

// One token's gated channels and their moments.
class GatedRow {
public:
    GatedRow(const CfmGate& p) : p_(p), blocks_(static_cast<int>(p.D / W)), v_(blocks_) {}

    void compute(const float* y, const float* z) {
        V sum{};
        const float scale = static_cast<float>(1.0 / p_.divisor);
        in_packs(blocks_, [&](auto pack, int j) {
            using Some = decltype(pack);
            const Some gate = load_pack<Some>(vectors(z), j);
            const Some v = load_pack<Some>(vectors(y), j) * (gate * sigmoid(gate)) * scale;
            store_pack(values(), j, v);
            sum += total(v);
        });
        if (!p_.weight) return;
        mean = sum_of_lanes(sum) / static_cast<float>(p_.D);
        V squares{};
        in_packs(blocks_, [&](auto pack, int j) {
            const auto off = load_pack<decltype(pack)>(values(), j) - mean;
            squares += total(off * off);
        });
        inverse_deviation = static_cast<float>(1.0 / std::sqrt(sum_of_lanes(squares) / static_cast<double>(p_.D) + EPS));
    }

    Rows<float> values() { return vectors(reinterpret_cast<float*>(v_.data())); }
    int blocks() const { return blocks_; }

    float mean = 0.0f, inverse_deviation = 1.0f;

private:
    const CfmGate& p_;
    int blocks_;
    std::vector<Pack<1>> v_;
};

struct Place {
    int64_t s, dense, strided;  // first floats of the token: in (S, B, L, D), and in z
    Place(const CfmGate& p, int64_t token) {
        s = token / p.L / p.B;
        dense = token * p.D;
        strided = s * p.zs.s + token / p.L % p.B * p.zs.b + token % p.L * p.zs.l;
    }
};

void forward_token(const CfmGate& p, const Place& at, GatedRow& row) {
    row.compute(p.y + at.dense, p.z + at.strided);
    const auto out = vectors(p.out + at.dense);
    in_packs(row.blocks(), [&](auto pack, int j) {
        using Some = decltype(pack);
        const Some v = load_pack<Some>(row.values(), j);
        if (!p.weight) return store_pack(out, j, v);
        const Some weight = load_pack<Some>(vectors(p.weight + at.s * p.D), j);
        const Some bias = load_pack<Some>(vectors(p.bias + at.s * p.D), j);
        store_pack(out, j, (v - row.mean) * row.inverse_deviation * weight + bias);
    });
}

// Gradients of the weights over the tokens of one task.
struct Totals {
    std::vector<Pack<1>> dweight, dbias;
    explicit Totals(int64_t blocks) : dweight(blocks), dbias(blocks) {}
};

// dv of a token whose output has the gradient dout, written over row.values(): the gradient of a layer normalization.
void normalization_gradient(const CfmGate& p, const Place& at, const float* dout, GatedRow& row, Totals& totals) {
    V sum{}, along{};
    const auto dweight = vectors(reinterpret_cast<float*>(totals.dweight.data()));
    const auto dbias = vectors(reinterpret_cast<float*>(totals.dbias.data()));
    const auto weight = vectors(p.weight + at.s * p.D);
    in_packs(row.blocks(), [&](auto pack, int j) {
        using Some = decltype(pack);
        const Some d = load_pack<Some>(vectors(dout), j), g = d * load_pack<Some>(weight, j);
        const Some x = (load_pack<Some>(row.values(), j) - row.mean) * row.inverse_deviation;
        store_pack(row.values(), j, x);
        store_pack(dweight, j, load_pack<Some>(dweight, j) + d * x);
        store_pack(dbias, j, load_pack<Some>(dbias, j) + d);
        sum += total(g);
        along += total(g * x);
    });
    const float mean_g = sum_of_lanes(sum) / static_cast<float>(p.D), mean_gx = sum_of_lanes(along) / static_cast<float>(p.D);
    in_packs(row.blocks(), [&](auto pack, int j) {
        using Some = decltype(pack);
        const Some g = load_pack<Some>(vectors(dout), j) * load_pack<Some>(weight, j);
        store_pack(row.values(), j, (g - mean_g - load_pack<Some>(row.values(), j) * mean_gx) * row.inverse_deviation);
    });
}

void backward_token(const CfmGate& p, const Place& at, GatedRow& row, Totals& totals) {
    const float *y = p.y + at.dense, *z = p.z + at.strided, *dout = p.dout + at.dense;
    Rows<const float> dv = vectors(dout);
    if (p.weight) {
        row.compute(y, z);
        normalization_gradient(p, at, dout, row, totals);
        dv = {row.values().first, W};
    }
    const float scale = static_cast<float>(1.0 / p.divisor);
    in_packs(row.blocks(), [&](auto pack, int j) {
        using Some = decltype(pack);
        const Some gate = load_pack<Some>(vectors(z), j), s = sigmoid(gate), d = load_pack<Some>(dv, j) * scale;
        store_pack(vectors(p.dy + at.dense), j, d * gate * s);
        store_pack(vectors(p.dz + at.dense), j, d * load_pack<Some>(vectors(y), j) * s * (1.0f + gate * (1.0f - s)));
    });
}

// Calls function(first token, last token, task) for stretches of tokens that share their weights.
template <class Function>
void in_stretches(const CfmGate& p, Function function) {
    const int64_t own = p.B * p.L, each = (own + STRETCH - 1) / STRETCH;
    parallel_for(p.S * each, static_cast<int>(p.threads), [&](int64_t task) {
        const int64_t first = task / each * own + task % each * STRETCH;
        function(first, std::min(first + STRETCH, (task / each + 1) * own), task);
    });
}

int forward(const CfmGate& p) {
    in_stretches(p, [&](int64_t first, int64_t last, int64_t) {
        GatedRow row(p);
        for (int64_t token = first; token < last; ++token) forward_token(p, Place(p, token), row);
    });
    return 0;
}

int backward(const CfmGate& p) {
    const int64_t each = (p.B * p.L + STRETCH - 1) / STRETCH;
    std::unique_ptr<float[]> parts(new float[p.weight ? 2 * p.S * each * p.D : 0]);
    in_stretches(p, [&](int64_t first, int64_t last, int64_t task) {
        GatedRow row(p);
        Totals totals(row.blocks());
        for (int64_t token = first; token < last; ++token) backward_token(p, Place(p, token), row, totals);
        if (!p.weight) return;
        std::memcpy(&parts[2 * task * p.D], totals.dweight.data(), p.D * sizeof(float));
        std::memcpy(&parts[(2 * task + 1) * p.D], totals.dbias.data(), p.D * sizeof(float));
    });
    for (int64_t s = 0; p.weight && s < p.S; ++s)
        for (int64_t d = 0; d < p.D; ++d) {
            double dweight = 0.0, dbias = 0.0;
            for (int64_t task = s * each; task < (s + 1) * each; ++task) {
                dweight += parts[2 * task * p.D + d];
                dbias += parts[(2 * task + 1) * p.D + d];
            }
            p.dweight[s * p.D + d] = static_cast<float>(dweight);
            p.dbias[s * p.D + d] = static_cast<float>(dbias);
        }
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_gate_forward(const CfmGate* gate) { return cfm::guarded(*gate, cfm::forward); }
extern "C" int cfm_gate_backward(const CfmGate* gate) { return cfm::guarded(*gate, cfm::backward); }
