// 3x3 and 3x3x3 convolution of feature maps whose channels come last, by Winograd's transforms (Lavin and Gray, arXiv
// 1509.09308, section 4.1): blocks of outputs come from M + 2 products along each axis for each pair of channels instead of
// 3 M. What stands in front of the convolution and behind it is done on the way, so that no map is read or written for it.
#include <algorithm>
#include <memory>
#include <vector>

#include "abi.h"
#include "order.hpp"
#include "parallel.hpp"
#include "vec.hpp"

namespace cfm {
namespace {

constexpr int SIDE = CFM_WIDTH == 16 ? 12 : 6;  // blocks that one product keeps in registers
constexpr int PANEL = 2;                        // vectors of output channels at once

#define CFM_AXIS static inline __attribute__((always_inline)) void

// Transforms of one axis: from IN pixels, and from TAPS weights, to POINTS factors; from their products to OUT pixels,
// SCALE for each pixel of the input.
struct Single {  // of images, which have one plane
    static constexpr int IN = 1, TAPS = 1, POINTS = 1, OUT = 1, SCALE = 1;
    CFM_AXIS input(const V* d, V* t) { t[0] = d[0]; }
    CFM_AXIS weights(const V* g, V* t) { t[0] = g[0]; }
    CFM_AXIS output(const V* m, V* y) { y[0] = m[0]; }
};

struct TwoOutputs {  // the points 0, 1, -1
    static constexpr int IN = 4, TAPS = 3, POINTS = 4, OUT = 2, SCALE = 1;
    CFM_AXIS input(const V* d, V* t) { t[0] = d[0] - d[2], t[1] = d[1] + d[2], t[2] = d[2] - d[1], t[3] = d[1] - d[3]; }
    CFM_AXIS weights(const V* g, V* t) {
        const V outer = 0.5f * (g[0] + g[2]), middle = 0.5f * g[1];
        t[0] = g[0], t[1] = outer + middle, t[2] = outer - middle, t[3] = g[2];
    }
    CFM_AXIS output(const V* m, V* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3]; }
};

struct FourOutputs {  // the points 0, 1, -1, 2, -2
    static constexpr int IN = 6, TAPS = 3, POINTS = 6, OUT = 4, SCALE = 1;
    CFM_AXIS input(const V* d, V* t) {
        const V a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1], c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
        t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4], t[1] = a + b, t[2] = a - b;
        t[3] = c + e, t[4] = c - e, t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
    }
    CFM_AXIS weights(const V* g, V* t) {
        constexpr float SIXTH = 1.0f / 6.0f, TWELFTH = 1.0f / 12.0f, TWENTYFOURTH = 1.0f / 24.0f;
        const V a = SIXTH * (g[0] + g[2]), b = SIXTH * g[1], c = TWENTYFOURTH * g[0] + SIXTH * g[2], e = TWELFTH * g[1];
        t[0] = 0.25f * g[0], t[1] = -a - b, t[2] = b - a, t[3] = c + e, t[4] = c - e, t[5] = g[2];
    }
    CFM_AXIS output(const V* m, V* y) {
        const V a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
        y[0] = m[0] + a + c, y[1] = b + 2.0f * e, y[2] = a + 4.0f * c, y[3] = b + 8.0f * e + m[5];
    }
};

// Behind nearest upsampling by 2 the four pixels of TwoOutputs are a, b, b, c: one of its products is 0.
struct Upsampled {
    static constexpr int IN = 3, TAPS = 3, POINTS = 3, OUT = 2, SCALE = 2;
    CFM_AXIS input(const V* d, V* t) { t[0] = d[0] - d[1], t[1] = d[1], t[2] = d[1] - d[2]; }
    CFM_AXIS weights(const V* g, V* t) { t[0] = g[0], t[1] = g[0] + g[1] + g[2], t[2] = g[2]; }
    CFM_AXIS output(const V* m, V* y) { y[0] = m[0] + m[1], y[1] = m[1] - m[2]; }
};
#undef CFM_AXIS

// Room for floats, aligned and not cleared.
class Room {
public:
    explicit Room(int64_t floats) : vectors_(new Pack<1>[(floats + W - 1) / W]) {}
    float* first() const { return reinterpret_cast<float*>(vectors_.get()); }

private:
    std::unique_ptr<Pack<1>[]> vectors_;
};

// One block of outputs: its image and the first pixel of x that it belongs to.
struct Block {
    int32_t image, plane, row, column;
};

// The first of the blocks of `side` pixels, `step` apart, that cover an axis. Pixels `step` apart are neighbours, so an
// axis falls into `step` of them.
std::vector<int32_t> starts(int64_t size, int side, int64_t step) {
    std::vector<int32_t> found;
    for (int64_t shift = 0; shift < std::min(step, size); ++shift)
        for (int64_t at = shift; at < size; at += side * step) found.push_back(static_cast<int32_t>(at));
    return found;
}

CFM_INLINE V leaky(V v, float slope) { return vmax(v, v * slope); }

template <class Planes, class Axis>
class Convolution {
public:
    explicit Convolution(const CfmMaps& p)
        : p_(p), planes_(Planes::SCALE * p.planes), rows_(Axis::SCALE * p.rows), columns_(Axis::SCALE * p.columns),
          weights_(POINTS * p.C * p.D) {
        const auto planes = starts(p.planes, Planes::OUT / Planes::SCALE, p.dilation);
        const auto rows = starts(p.rows, OUT / Axis::SCALE, p.dilation);
        const auto columns = starts(p.columns, OUT / Axis::SCALE, p.dilation);
        for (int32_t image = 0; image < p.B; ++image)
            for (const int32_t plane : planes)
                for (const int32_t row : rows)
                    for (const int32_t column : columns) blocks_.push_back({image, plane, row, column});
        for (int i = 0; i < IN; ++i)
            for (int j = 0; j < IN; ++j) offsets_[i * IN + j] = ((i - 1) * p.columns + j - 1) * p.dilation * p.C;
    }

    void run() {
        parallel_for(p_.D / W, static_cast<int>(p_.threads), [&](int64_t vector) { transform_weights(vector); });
        const int64_t many = static_cast<int64_t>(blocks_.size()), batches = (many + TOGETHER - 1) / TOGETHER;
        const int64_t tasks = std::min(batches, p_.threads > 1 ? 4 * p_.threads : 1);
        parallel_for(tasks, static_cast<int>(p_.threads), [&](int64_t task) {
            const Room v(POINTS * p_.C * TOGETHER), m(POINTS * TOGETHER * PANEL * W);
            for (int64_t batch = task * batches / tasks; batch < (task + 1) * batches / tasks; ++batch)
                convolve(batch * TOGETHER, std::min(many, (batch + 1) * TOGETHER), v.first(), m.first());
        });
    }

private:
    static constexpr int IN = Axis::IN, AXIS = Axis::POINTS, SQUARE = AXIS * AXIS, POINTS = Planes::POINTS * SQUARE;
    static constexpr int OUT = Axis::OUT, TAPS = Planes::TAPS * 9;
    static constexpr int GROUPS = 2;  // so many times SIDE blocks share the weights that are in the cache
    static constexpr int TOGETHER = SIDE * GROUPS;

    // Transformed weights from a vector of output channels on, the first of a panel: [POINTS][C][vectors of the panel].
    float* panel(int64_t vector) const { return weights_.first() + vector * W * POINTS * p_.C; }
    int64_t width(int64_t vector) const { return std::min<int64_t>(PANEL, p_.D / W - vector) * W; }

    void transform_weights(int64_t vector) const {
        const Room turned(TAPS * p_.C * W);  // [C * TAPS][W]
        float* g = turned.first();
        for (int64_t at = 0; at < TAPS * p_.C; at += W) {
            V v[W];
#pragma GCC unroll 16
            for (int d = 0; d < W; ++d) v[d] = load(p_.weight + (vector * W + d) * TAPS * p_.C + at);
            transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) store(g + (at + i) * W, v[i]);
        }
        const int64_t first = vector / PANEL * PANEL, stride = width(first);
        float* out = panel(first) + (vector - first) * W;
        for (int64_t c = 0; c < p_.C; ++c, g += TAPS * W) {
            V squares[SQUARE][Planes::TAPS], line[Planes::POINTS];
            for (int k = 0; k < Planes::TAPS; ++k) {
                V rows[AXIS][3], column[3], t[AXIS];
                for (int j = 0; j < 3; ++j) {
                    for (int i = 0; i < 3; ++i) column[i] = load(g + (9 * k + 3 * i + j) * W);
                    Axis::weights(column, t);
                    for (int i = 0; i < AXIS; ++i) rows[i][j] = t[i];
                }
                for (int i = 0; i < AXIS; ++i) {
                    Axis::weights(rows[i], t);
                    for (int j = 0; j < AXIS; ++j) squares[i * AXIS + j][k] = t[j];
                }
            }
            for (int s = 0; s < SQUARE; ++s) {
                Planes::weights(squares[s], line);
                for (int k = 0; k < Planes::POINTS; ++k) store(out + ((k * SQUARE + s) * p_.C + c) * stride, line[k]);
            }
        }
    }

    void convolve(int64_t first, int64_t last, float* v, float* m) const {
        const int64_t group = POINTS * p_.C * SIDE;
        for (int t = 0; t < TOGETHER; ++t)  // what is missing at the end is a copy that nobody stores
            transform_input(blocks_[std::min(first + t, last - 1)], v + t / SIDE * group + t % SIDE * W);
        for (int64_t vector = 0; vector < p_.D / W; vector += PANEL) {
            const int64_t wide = width(vector);
            for (int point = 0; point < POINTS; ++point)
                for (int g = 0; g < GROUPS; ++g) {
                    const float* from = v + g * group + point * p_.C * SIDE;
                    const float* weights = panel(vector) + point * p_.C * wide;
                    float* to = m + (point * GROUPS + g) * SIDE * PANEL * W;
                    wide == W ? multiply<1>(from, weights, to) : multiply<PANEL>(from, weights, to);
                }
            for (int64_t t = 0; t < last - first; ++t)
                for (int64_t j = 0; j < wide; j += W)
                    transform_output(blocks_[first + t], vector * W + j, m + t * PANEL * W + j);
        }
    }

    // To [POINTS][C / W][SIDE][W], as one of the SIDE blocks.
    void transform_input(const Block& s, float* v) const {
        const int64_t plane_step = p_.rows * p_.columns * p_.C;
        const float* middle =
            p_.x + (s.image * p_.planes + s.plane) * plane_step + (s.row * p_.columns + s.column) * p_.C;
        const int64_t d = p_.dilation;
        uint32_t rows = 0, columns = 0;  // bits of those that are in the image
        for (int i = 0; i < IN; ++i) {
            const int64_t row = s.row + (i - 1) * d, column = s.column + (i - 1) * d;
            rows |= static_cast<uint32_t>(row >= 0 && row < p_.rows) << i;
            columns |= static_cast<uint32_t>(column >= 0 && column < p_.columns) << i;
        }
        constexpr uint32_t ALL = (1u << IN) - 1;
        const bool whole = rows == ALL && columns == ALL;
        for (int64_t c = 0; c < p_.C; c += W, v += SIDE * W) {
            const auto to_point = [&](int point, V t) { store(v + point * p_.C * SIDE, t); };
            const auto in_plane = [&](const float* from, auto keep) {
                whole ? transform_square<true>(from, c, rows, columns, keep)
                      : transform_square<false>(from, c, rows, columns, keep);
            };
            if constexpr (Planes::POINTS == 1) {
                in_plane(middle, to_point);
            } else {
                V squares[SQUARE][Planes::IN], line[Planes::POINTS];
#pragma GCC unroll 6
                for (int k = 0; k < Planes::IN; ++k) {
                    const int64_t plane = s.plane + (k - 1) * d;
                    if (plane >= 0 && plane < p_.planes)
                        in_plane(middle + (k - 1) * d * plane_step, [&](int point, V t) { squares[point][k] = t; });
                    else
                        for (int point = 0; point < SQUARE; ++point) squares[point][k] = V{};
                }
                for (int point = 0; point < SQUARE; ++point) {
                    Planes::input(squares[point], line);
#pragma GCC unroll 6
                    for (int k = 0; k < Planes::POINTS; ++k) to_point(k * SQUARE + point, line[k]);
                }
            }
        }
    }

    // Calls keep(point, factor) for a vector of channels of one plane.
    template <bool WHOLE, class Keep>
    inline __attribute__((always_inline)) void transform_square(const float* middle, int64_t c, uint32_t in_rows, uint32_t in_columns, Keep keep) const {
        const V scale = p_.before ? load(p_.before + c) : V{}, shift = p_.before ? load(p_.before + p_.C + c) : V{};
        V d[IN], t[AXIS], rows[AXIS][IN];
#pragma GCC unroll 6
        for (int j = 0; j < IN; ++j) {
#pragma GCC unroll 6
            for (int i = 0; i < IN; ++i) {
                const bool inside = WHOLE || (in_rows >> i & in_columns >> j & 1);
                d[i] = inside ? load(middle + offsets_[i * IN + j] + c) : V{};
                if (p_.before && inside) d[i] = d[i] * scale + shift;
            }
            Axis::input(d, t);
#pragma GCC unroll 6
            for (int i = 0; i < AXIS; ++i) rows[i][j] = t[i];
        }
#pragma GCC unroll 6
        for (int i = 0; i < AXIS; ++i) {
            Axis::input(rows[i], t);
#pragma GCC unroll 6
            for (int j = 0; j < AXIS; ++j) keep(i * AXIS + j, t[j]);
        }
    }

    // Of SIDE blocks: the sum over the input channels, for K vectors of output channels.
    template <int K>
    void multiply(const float* v, const float* weights, float* m) const {
        V sum[SIDE][K]{};
        for (int64_t c = 0; c < p_.C; c += W, v += SIDE * W)
            for (int one = 0; one < W; ++one, weights += K * W) {
                V w[K];
#pragma GCC unroll 2
                for (int k = 0; k < K; ++k) w[k] = load(weights + k * W);
#pragma GCC unroll 12
                for (int t = 0; t < SIDE; ++t)
#pragma GCC unroll 2
                    for (int k = 0; k < K; ++k) sum[t][k] += v[t * W + one] * w[k];
            }
#pragma GCC unroll 12
        for (int t = 0; t < SIDE; ++t)
#pragma GCC unroll 2
            for (int k = 0; k < K; ++k) store(m + (t * PANEL + k) * W, sum[t][k]);
    }

    void transform_output(const Block& s, int64_t channel, const float* m) const {
        const auto product = [&](int point) { return load(m + point * TOGETHER * PANEL * W); };
        if constexpr (Planes::POINTS == 1) {
            transform_square_back(s, s.plane, channel, product);
        } else {
            V line[Planes::POINTS], y[Planes::OUT], squares[Planes::OUT][SQUARE];
            for (int point = 0; point < SQUARE; ++point) {
#pragma GCC unroll 6
                for (int k = 0; k < Planes::POINTS; ++k) line[k] = product(k * SQUARE + point);
                Planes::output(line, y);
#pragma GCC unroll 4
                for (int k = 0; k < Planes::OUT; ++k) squares[k][point] = y[k];
            }
            for (int k = 0; k < Planes::OUT; ++k) {
                const int64_t plane = Planes::SCALE * s.plane + k * p_.dilation;
                if (plane < planes_) transform_square_back(s, plane, channel, [&](int point) { return squares[k][point]; });
            }
        }
    }

    template <class Product>
    inline __attribute__((always_inline)) void transform_square_back(const Block& s, int64_t plane, int64_t channel, Product product) const {
        V column[AXIS], y[OUT], rows[OUT][AXIS];
#pragma GCC unroll 6
        for (int j = 0; j < AXIS; ++j) {
#pragma GCC unroll 6
            for (int i = 0; i < AXIS; ++i) column[i] = product(i * AXIS + j);
            Axis::output(column, y);
#pragma GCC unroll 4
            for (int i = 0; i < OUT; ++i) rows[i][j] = y[i];
        }
#pragma GCC unroll 4
        for (int i = 0; i < OUT; ++i) {
            const int64_t row = Axis::SCALE * s.row + i * p_.dilation;
            if (row >= rows_) return;
            Axis::output(rows[i], y);
#pragma GCC unroll 4
            for (int j = 0; j < OUT; ++j) {
                const int64_t at = Axis::SCALE * s.column + j * p_.dilation;
                const int64_t pixel = ((s.image * planes_ + plane) * rows_ + row) * columns_ + at;
                if (at < columns_) finish(y[j], pixel * p_.D, channel);
            }
        }
    }

    // What follows the convolution at one pixel.
    void finish(V v, int64_t pixel, int64_t channel) const {
        v = leaky(v + load(p_.bias + channel), static_cast<float>(p_.slope));
        if (p_.times) v *= load(p_.times + pixel + channel);
        if (p_.after)
            v = leaky(v * load(p_.after + channel) + load(p_.after + p_.D + channel), static_cast<float>(p_.slope_after));
        if (p_.plus) v += load(p_.plus + pixel + channel);
        store(p_.out + pixel + channel, v);
    }

    const CfmMaps& p_;
    const int64_t planes_, rows_, columns_;  // of the result
    std::vector<Block> blocks_;
    const Room weights_;
    int64_t offsets_[IN * IN];
};

int forward(const CfmMaps& p) {
    if (p.B * p.planes * p.rows * p.columns * p.D == 0) return 0;
    if (p.C % 16 || p.D % 16 || p.dilation < 1 || p.scale < 1 || p.scale > 2 || (p.scale == 2 && p.dilation > 1)) return 5;
    if (p.dims == 3)
        p.scale == 2 ? Convolution<Upsampled, Upsampled>(p).run() : Convolution<TwoOutputs, TwoOutputs>(p).run();
    else if (p.scale == 2)
        Convolution<Single, Upsampled>(p).run();
    else if (p.fast)
        Convolution<Single, FourOutputs>(p).run();
    else
        Convolution<Single, TwoOutputs>(p).run();
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_maps_forward(const CfmMaps* maps) { return cfm::guarded(*maps, cfm::forward); }
