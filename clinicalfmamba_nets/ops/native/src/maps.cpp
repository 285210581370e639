// 3x3 convolution of feature maps whose channels come last, by Winograd's transforms (Lavin and Gray, arXiv 1509.09308,
// section 4.1): squares of outputs come from (M + 2)^2 products for each pair of channels instead of 9 M^2. What stands in
// front of the convolution and behind it is done on the way, so that no map is read or written for it.
#include <algorithm>
#include <memory>
#include <vector>

#include "abi.h"
#include "order.hpp"
#include "parallel.hpp"
#include "vec.hpp"

namespace cfm {
namespace {

constexpr int SIDE = CFM_WIDTH == 16 ? 12 : 6;  // squares that one product keeps in registers
constexpr int PANEL = 2;                        // vectors of output channels at once
constexpr int GROUPS = 2;                       // so many times SIDE squares share the weights that are in the cache

#define CFM_AXIS static inline __attribute__((always_inline)) void

// Transforms of one axis: from IN pixels, and from 3 weights, to POINTS factors; from their products to OUT pixels.
struct TwoOutputs {  // the points 0, 1, -1
    static constexpr int IN = 4, POINTS = 4, OUT = 2;
    CFM_AXIS input(const V* d, V* t) { t[0] = d[0] - d[2], t[1] = d[1] + d[2], t[2] = d[2] - d[1], t[3] = d[1] - d[3]; }
    CFM_AXIS weights(const V* g, V* t) {
        const V outer = 0.5f * (g[0] + g[2]), middle = 0.5f * g[1];
        t[0] = g[0], t[1] = outer + middle, t[2] = outer - middle, t[3] = g[2];
    }
    CFM_AXIS output(const V* m, V* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3]; }
};

struct FourOutputs {  // the points 0, 1, -1, 2, -2
    static constexpr int IN = 6, POINTS = 6, OUT = 4;
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
    static constexpr int IN = 3, POINTS = 3, OUT = 2;
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

// One square of outputs: its image and the first pixel of x that it belongs to.
struct Square {
    int32_t image, row, column;
};

// The squares that cover all images. Pixels `dilation` apart are neighbours, so an image falls into dilation^2 of them.
std::vector<Square> squares_of(const CfmMaps& p, int side) {
    std::vector<Square> squares;
    const auto step = static_cast<int32_t>(p.dilation), span = side * step;
    for (int32_t image = 0; image < p.B; ++image)
        for (int32_t down = 0; down < std::min<int64_t>(step, p.rows); ++down)
            for (int32_t right = 0; right < std::min<int64_t>(step, p.columns); ++right)
                for (int32_t row = down; row < p.rows; row += span)
                    for (int32_t column = right; column < p.columns; column += span)
                        squares.push_back({image, row, column});
    return squares;
}

CFM_INLINE V leaky(V v, float slope) { return vmax(v, v * slope); }

template <class Axis, int SCALE>
class Convolution {
public:
    explicit Convolution(const CfmMaps& p)
        : p_(p), rows_(SCALE * p.rows), columns_(SCALE * p.columns), squares_(squares_of(p, OUT / SCALE)),
          weights_(POINTS * p.C * p.D) {
        for (int i = 0; i < IN; ++i)
            for (int j = 0; j < IN; ++j) offsets_[i * IN + j] = ((i - 1) * p.columns + j - 1) * p.dilation * p.C;
    }

    void run() {
        parallel_for(p_.D / W, static_cast<int>(p_.threads), [&](int64_t block) { transform_weights(block); });
        const int64_t many = static_cast<int64_t>(squares_.size()), blocks = (many + TOGETHER - 1) / TOGETHER;
        const int64_t tasks = std::min(blocks, p_.threads > 1 ? 4 * p_.threads : 1);
        parallel_for(tasks, static_cast<int>(p_.threads), [&](int64_t task) {
            const Room v(POINTS * p_.C * TOGETHER), m(POINTS * TOGETHER * PANEL * W);
            for (int64_t block = task * blocks / tasks; block < (task + 1) * blocks / tasks; ++block)
                convolve(block * TOGETHER, std::min(many, (block + 1) * TOGETHER), v.first(), m.first());
        });
    }

private:
    static constexpr int IN = Axis::IN, AXIS = Axis::POINTS, POINTS = AXIS * AXIS, OUT = Axis::OUT, TOGETHER = SIDE * GROUPS;

    // Transformed weights from a vector of output channels on, the first of a panel: [POINTS][C][vectors of the panel].
    float* panel(int64_t vector) const { return weights_.first() + vector * W * POINTS * p_.C; }
    int64_t width(int64_t vector) const { return std::min<int64_t>(PANEL, p_.D / W - vector) * W; }

    void transform_weights(int64_t block) const {
        const Room turned(9 * p_.C * W);  // [C * 9][W]
        float* g = turned.first();
        for (int64_t at = 0; at < 9 * p_.C; at += W) {
            V v[W];
#pragma GCC unroll 16
            for (int d = 0; d < W; ++d) v[d] = load(p_.weight + (block * W + d) * 9 * p_.C + at);
            transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) store(g + (at + i) * W, v[i]);
        }
        const int64_t first = block / PANEL * PANEL, stride = width(first);
        float* out = panel(first) + (block - first) * W;
        for (int64_t c = 0; c < p_.C; ++c, g += 9 * W) {
            V rows[AXIS][3], column[3], t[AXIS];
            for (int j = 0; j < 3; ++j) {
                for (int i = 0; i < 3; ++i) column[i] = load(g + (3 * i + j) * W);
                Axis::weights(column, t);
                for (int i = 0; i < AXIS; ++i) rows[i][j] = t[i];
            }
            for (int i = 0; i < AXIS; ++i) {
                Axis::weights(rows[i], t);
                for (int j = 0; j < AXIS; ++j) store(out + ((i * AXIS + j) * p_.C + c) * stride, t[j]);
            }
        }
    }

    void convolve(int64_t first, int64_t last, float* v, float* m) const {
        const int64_t group = POINTS * p_.C * SIDE;
        for (int t = 0; t < TOGETHER; ++t)  // what is missing at the end is a copy that nobody stores
            transform_input(squares_[std::min(first + t, last - 1)], v + t / SIDE * group + t % SIDE * W);
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
                    transform_output(squares_[first + t], vector * W + j, m + t * PANEL * W + j);
        }
    }

    // To [POINTS][C / W][SIDE][W], as one of the SIDE squares.
    void transform_input(const Square& s, float* v) const {
        const float* middle = p_.x + ((s.image * p_.rows + s.row) * p_.columns + s.column) * p_.C;
        const int64_t d = p_.dilation, more = (IN - 2) * d;
        if (s.row >= d && s.row + more < p_.rows && s.column >= d && s.column + more < p_.columns)
            return transform_pixels<true>(middle, 0, 0, v);
        uint32_t rows = 0, columns = 0;  // bits of those that are in the image
        for (int i = 0; i < IN; ++i) {
            const int64_t row = s.row + (i - 1) * d, column = s.column + (i - 1) * d;
            rows |= static_cast<uint32_t>(row >= 0 && row < p_.rows) << i;
            columns |= static_cast<uint32_t>(column >= 0 && column < p_.columns) << i;
        }
        transform_pixels<false>(middle, rows, columns, v);
    }

    template <bool WHOLE>
    void transform_pixels(const float* middle, uint32_t in_rows, uint32_t in_columns, float* v) const {
        for (int64_t c = 0; c < p_.C; c += W, v += SIDE * W) {
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
                for (int j = 0; j < AXIS; ++j) store(v + (i * AXIS + j) * p_.C * SIDE, t[j]);
            }
        }
    }

    // Of SIDE squares: the sum over the input channels, for K vectors of output channels.
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

    void transform_output(const Square& s, int64_t channel, const float* m) const {
        V column[AXIS], y[OUT], rows[OUT][AXIS];
#pragma GCC unroll 6
        for (int j = 0; j < AXIS; ++j) {
#pragma GCC unroll 6
            for (int i = 0; i < AXIS; ++i) column[i] = load(m + (i * AXIS + j) * TOGETHER * PANEL * W);
            Axis::output(column, y);
#pragma GCC unroll 4
            for (int i = 0; i < OUT; ++i) rows[i][j] = y[i];
        }
#pragma GCC unroll 4
        for (int i = 0; i < OUT; ++i) {
            const int64_t row = SCALE * s.row + i * p_.dilation;
            if (row >= rows_) return;
            Axis::output(rows[i], y);
#pragma GCC unroll 4
            for (int j = 0; j < OUT; ++j) {
                const int64_t at = SCALE * s.column + j * p_.dilation;
                if (at < columns_) finish(y[j], ((s.image * rows_ + row) * columns_ + at) * p_.D, channel);
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
    const int64_t rows_, columns_;  // of the result
    const std::vector<Square> squares_;
    const Room weights_;
    int64_t offsets_[IN * IN];
};

int forward(const CfmMaps& p) {
    if (p.B * p.rows * p.columns * p.D == 0) return 0;
    if (p.C % 16 || p.D % 16 || p.dilation < 1 || p.scale < 1 || p.scale > 2 || (p.scale == 2 && p.dilation > 1)) return 5;
    if (p.scale == 2)
        Convolution<Upsampled, 2>(p).run();
    else if (p.fast)
        Convolution<FourOutputs, 1>(p).run();
    else
        Convolution<TwoOutputs, 1>(p).run();
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_maps_forward(const CfmMaps* maps) { return cfm::guarded(*maps, cfm::forward); }
