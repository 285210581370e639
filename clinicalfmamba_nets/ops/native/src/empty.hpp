// Problems without a number in one of their sizes: nothing is computed, and what results there are hold zeros.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "abi.h"

namespace cfm {

struct Axis {
    int64_t size, stride;
};

inline void clear(float* out, const Axis* axis, const Axis* end) {
    if (axis == end) {
        *out = 0.0f;
        return;
    }
    for (int64_t i = 0; i < axis->size; ++i) clear(out + i * axis->stride, axis + 1, end);
}

// Zeros over the axes of a tensor; of no effect without one, or where an axis is empty.
inline void clear(float* out, std::initializer_list<Axis> axes) {
    for (const Axis& axis : axes)
        if (!out || axis.size == 0) return;
    clear(out, axes.begin(), axes.end());
}

inline void clear(float* out, int64_t size) { clear(out, {{size, 1}}); }

inline bool is_empty(const CfmScan& p) { return p.S * p.K * p.B * p.G * p.L * p.D == 0; }
inline bool is_empty(const CfmConv& p) { return p.S * p.K * p.B * p.L * p.D == 0; }

inline int forward_of_nothing(const CfmScan& p) {
    clear(p.y, {{p.S, p.ys.s}, {p.B, p.ys.b}, {p.L, p.ys.l}, {p.D, p.ys.d}});
    clear(p.last_state, p.S * p.K * p.B * p.D * p.N);
    return 0;
}

inline int backward_of_nothing(const CfmScan& p) {
    const int64_t weights = p.S * p.K * p.D;
    const auto per_token = [&](float* out, const CfmStateStrides& t, int64_t size) {
        clear(out, {{p.S, t.s}, {p.K, t.k}, {p.B, t.b}, {p.G, t.g}, {p.L, t.l}, {size, t.n}});
    };
    clear(p.dA, weights * p.N);
    clear(p.dD_skip, weights);
    clear(p.ddelta_bias, weights);
    clear(p.ddt_weight, weights * p.R);
    per_token(p.dB, p.dBs, p.N);
    per_token(p.dC, p.dCs, p.N);
    per_token(p.dsteps, p.dstepss, p.R);
    return 0;
}

inline int forward_of_nothing(const CfmConv& p) {
    clear(p.projected, p.S * p.K * p.B * p.L * p.P);
    return 0;
}

inline int backward_of_nothing(const CfmConv& p) {
    const int64_t weights = p.S * p.K * p.D;
    clear(p.dx, p.S * p.B * p.L * p.D);
    clear(p.dweight, weights * p.width);
    clear(p.dbias, weights);
    clear(p.dx_proj, weights * p.P);
    return 0;
}

}  // namespace cfm
