// The shares of a mix of two sources, refined by Adam on a loss of the result: what engine/fusion/refinement.py does by
// torch's operations and its derivatives, with the derivatives written out. Constants and terms are those of losses/:
// edges.py, box_fidelity.py, lone_structures.py, correlation.py.
//
// Rows of maps are filled up to whole vectors; what is summed is cut off there. Sums over neighbors are taken from both
// sides, and those over the image in double precision, so that the mirror image gives the mirrored result to the bit.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "abi.h"
#include "order.hpp"
#include "parallel.hpp"
#include "vec.hpp"

namespace cfm {
namespace {

constexpr int64_t GAP = 16;  // floats between rows: half of them the right margin of a row, half the left one of the next

class Map {
public:
    Map() = default;
    Map(int64_t rows, int64_t columns)
        : rows(rows), columns(columns), stride_((columns + GAP - 1) / GAP * GAP + GAP), data_(2 * GAP + rows * stride_) {}

    float* row(int64_t i) { return data_.data() + GAP + i * stride_; }
    const float* row(int64_t i) const { return data_.data() + GAP + i * stride_; }
    const float* clamped(int64_t i) const { return row(std::clamp<int64_t>(i, 0, rows - 1)); }
    double size() const { return static_cast<double>(rows * columns); }
    // 1 in the lanes of a vector that are pixels, else 0.
    V inside(int64_t j) const {
        V lanes{};
        for (int i = 0; i < W; ++i) lanes[i] = j + i < columns ? 1.0f : 0.0f;
        return lanes;
    }
    void cut_off(int64_t i) { std::fill(row(i) + columns, row(i) + (columns + W - 1) / W * W, 0.0f); }  // fills up with 0

    int64_t rows = 0, columns = 0;

private:
    int64_t stride_ = 0;
    std::vector<float> data_;
};

// Calls function(first column) for every vector of a row.
template <class Function>
CFM_INLINE void in_row(const Map& map, Function function) {
    for (int64_t j = 0; j < map.columns; j += W) function(j);
}

// Sets the pixels beside a row to `sign` times those at its ends.
void set_sides(const Map& map, float* row, int64_t margin = 1, float sign = 1.0f) {
    for (int64_t k = 1; k <= margin; ++k) row[-k] = sign * row[0], row[map.columns - 1 + k] = sign * row[map.columns - 1];
}

CFM_INLINE void add(float* p, V v) { store(p, load(p) + v); }

// A sum in double precision, so that its order does not show: the mirror image is to have the same one.
class Sum {
public:
    void operator+=(V v) { lanes_ += __builtin_convertvector(v, Doubles); }
    operator double() const {
        double sum = 0.0;
        for (int i = 0; i < W; ++i) sum += lanes_[i];
        return sum;
    }

private:
    typedef double Doubles __attribute__((vector_size(W * 8)));
    Doubles lanes_{};
};

// log(1 + x) for x >= 0, to the last digits of 1 + x.
CFM_INLINE V log1p_positive(V x) {
    const I bits = reinterpret_cast<I>(1.0f + x), mantissa = (bits & 0x007fffff) | 0x3f800000;
    const V exponent = __builtin_convertvector((bits >> 23) - 127, V);
    return exponent * LN2 + log1p_unit(reinterpret_cast<V>(mantissa) - 1.0f);
}

// --- edges and texture ---------------------------------------------------------------------------------------------

constexpr float FLAT_EDGE = 4.0f / 255.0f;
constexpr float LEAST_TEXTURE = 1.0f / 255.0f;

struct Gradient {
    V down, right;
    V squared() const { return down * down + right * right; }
    V length() const { return vsqrt(squared() + FLAT_EDGE * FLAT_EDGE / 4.0f); }
};

CFM_INLINE V smoothed(const float* p) { return load(p - 1) + load(p + 1) + 2.0f * load(p); }

// Sobel derivatives of a row whose sides are set, as are those of its neighbors.
CFM_INLINE Gradient sobel(const float* above, const float* row, const float* below, int64_t j) {
    const auto column = [&](int64_t k) { return load(above + k) + load(below + k) + 2.0f * load(row + k); };
    return {smoothed(below + j) - smoothed(above + j), column(j + 1) - column(j - 1)};
}

// What stands out of the neighbors along an axis; 2 f(i) - f(i-1) - f(i+1).
CFM_INLINE V bend(const float* before, const float* at, const float* after) {
    return 2.0f * load(at) - (load(before) + load(after));
}

// The edges of two sources, and the slope of what a result keeps of them or adds to them.
class Edges {
public:
    Edges(const std::array<Map, 2>& source, const CfmMix& p) {
        const Map& any = source[0];
        Sum weights, strength;
        for (Map& map : maps_) map = Map(any.rows, any.columns);
        down_ = right_ = strongest_ = any;
        for (int64_t i = 0; i < any.rows; ++i) {
            for (int s = 0; s < 2; ++s) {
                in_row(any, [&](int64_t j) {
                    const Map& f = source[s];
                    const Gradient g = sobel(f.clamped(i - 1), f.row(i), f.clamped(i + 1), j);
                    const V length = g.length(), inverse = 1.0f / length, weight = vsqrt(g.squared());
                    store(of(s, LENGTH).row(i) + j, length);
                    store(of(s, DOWN).row(i) + j, g.down * inverse);
                    store(of(s, RIGHT).row(i) + j, g.right * inverse);
                    store(of(s, WEIGHT).row(i) + j, weight);
                });
                of(s, WEIGHT).cut_off(i);
                in_row(any, [&](int64_t j) { weights += load(of(s, WEIGHT).row(i) + j); });
            }
            in_row(any, [&](int64_t j) {
                store(strongest_.row(i) + j, vmax(load(of(0, LENGTH).row(i) + j), load(of(1, LENGTH).row(i) + j)));
            });
            strongest_.cut_off(i);
            in_row(any, [&](int64_t j) { strength += load(strongest_.row(i) + j); });
        }
        kept_ = static_cast<float>(-1.0 / std::max<double>(weights, 1e-6));
        beyond_ = static_cast<float>(p.overshoot / strength);
    }

    void add_slope(const Map& fused, Map& slope) {
        for (int64_t i = 0; i < fused.rows; ++i) {
            float *down = down_.row(i), *right = right_.row(i);
            in_row(fused, [&](int64_t j) {
                const Gradient d = slope_of_gradient(fused, i, j);
                store(down + j, d.down);
                store(right + j, d.right);
            });
            set_sides(fused, down);
            set_sides(fused, right, 1, -1.0f);
        }
        // A smoothing with repeated ends is its own adjoint; of a difference the ends are repeated with the other sign.
        for (int64_t i = 0; i < fused.rows; ++i) {
            const float above_sign = i > 0 ? 1.0f : -1.0f, below_sign = i + 1 < fused.rows ? 1.0f : -1.0f;
            const float *above = down_.clamped(i - 1), *below = down_.clamped(i + 1);
            const float *before = right_.clamped(i - 1), *row = right_.row(i), *after = right_.clamped(i + 1);
            in_row(fused, [&](int64_t j) {
                const auto column = [&](int64_t k) { return load(before + k) + load(after + k) + 2.0f * load(row + k); };
                const V along = above_sign * smoothed(above + j) - below_sign * smoothed(below + j);
                add(slope.row(i) + j, along + (column(j - 1) - column(j + 1)));
            });
        }
    }

private:
    enum { LENGTH, DOWN, RIGHT, WEIGHT, PARTS };

    Map& of(int source, int part) { return maps_[source * PARTS + part]; }

    Gradient slope_of_gradient(const Map& fused, int64_t i, int64_t j) {
        const Gradient g = sobel(fused.clamped(i - 1), fused.row(i), fused.clamped(i + 1), j);
        const V strong = g.length(), inverse = 1.0f / strong, down = g.down * inverse, right = g.right * inverse;
        const V over = strong - load(strongest_.row(i) + j);
        V of_strong = over > 0.0f ? splat(beyond_) : V{}, of_down{}, of_right{};
        for (int s = 0; s < 2; ++s) {
            const V length = load(of(s, LENGTH).row(i) + j), weight = kept_ * load(of(s, WEIGHT).row(i) + j);
            const V its_down = load(of(s, DOWN).row(i) + j), its_right = load(of(s, RIGHT).row(i) + j);
            const V weaker = vmin(strong, length), inverse_stronger = vmin(inverse, 1.0f / length);
            const V cosine = down * its_down + right * its_right;
            const V size = sigmoid(10.0f * (weaker * inverse_stronger - 0.5f)), way = sigmoid(25.0f * (cosine - 0.951f));
            const V of_ratio = 10.0f * weight * size * way * (1.0f - size);
            const V of_cosine = 25.0f * weight * size * way * (1.0f - way) * inverse;
            const V grows = strong < length ? inverse_stronger : (strong > length ? -length * inverse * inverse : V{});
            of_strong += of_ratio * grows - of_cosine * cosine;
            of_down += of_cosine * its_down;
            of_right += of_cosine * its_right;
        }
        return {of_strong * down + of_down, of_strong * right + of_right};
    }

    std::array<Map, 2 * PARTS> maps_;
    Map strongest_, down_, right_;
    float kept_, beyond_;
};

// The texture of two sources along both axes, and the slope of what a result has beyond it.
class Texture {
public:
    Texture(const std::array<Map, 2>& source, const CfmMix& p) {
        const Map& any = source[0];
        for (int axis = 0; axis < 2; ++axis) {
            strongest_[axis] = share_[axis] = slope_[axis] = Map(any.rows, any.columns);
            const int64_t rows = any.rows - 2 * (axis == 0), columns = any.columns - 2 * (axis == 1);
            const int64_t top = axis == 0, left = axis == 1;
            for (int64_t i = top; i < top + rows; ++i)
                in_row(any, [&](int64_t j) {
                    V most{};
                    for (const Map& f : source) most = vmax(most, vabs(along(f, axis, i, j)));
                    store(strongest_[axis].row(i) + j, most);
                });
            const float each = static_cast<float>(p.texture / 2.0 / static_cast<double>(rows * columns));
            for (int64_t i = top; i < top + rows; ++i)
                for (int64_t j = left; j < left + columns; ++j) {
                    const auto column = [&](int64_t x) {
                        float sum = 0.0f;
                        for (int64_t y = i - 2; y <= i + 2; ++y)
                            sum += strongest_[axis].row(std::clamp(y, top, top + rows - 1))[std::clamp(x, left, left + columns - 1)];
                        return sum;
                    };
                    const float around = (column(j - 2) + column(j + 2)) + (column(j - 1) + column(j + 1)) + column(j);
                    share_[axis].row(i)[j] = each / (around / 25.0f + LEAST_TEXTURE);
                }
        }
    }

    void add_slope(const Map& fused, Map& slope) {
        for (int axis = 0; axis < 2; ++axis)
            for (int64_t i = axis == 0; i < fused.rows - (axis == 0); ++i)
                in_row(fused, [&](int64_t j) {
                    const V bent = along(fused, axis, i, j), share = load(share_[axis].row(i) + j);
                    const V way = bent > 0.0f ? share : -share;
                    store(slope_[axis].row(i) + j, vabs(bent) > load(strongest_[axis].row(i) + j) ? way : V{});
                });
        for (int64_t i = 0; i < fused.rows; ++i)
            in_row(fused, [&](int64_t j) {
                const float *down = slope_[0].row(i) + j, *right = slope_[1].row(i) + j;
                // of the first and the last row, and beyond them, `down` is 0
                add(slope.row(i) + j, bend(slope_[0].clamped(i - 1) + j, down, slope_[0].clamped(i + 1) + j) +
                                          bend(right - 1, right, right + 1));
            });
    }

private:
    static V along(const Map& f, int axis, int64_t i, int64_t j) {
        const float* at = f.row(i) + j;
        return axis == 0 ? bend(f.row(i - 1) + j, at, f.row(i + 1) + j) : bend(at - 1, at, at + 1);
    }

    std::array<Map, 2> strongest_, share_, slope_;
};

// --- blocks --------------------------------------------------------------------------------------------------------

// Sums of `size` x `size` pixels; term(i, j) gives the pixels of a vector.
template <class Term>
void sum_blocks(const Map& image, int64_t size, Map& blocks, std::vector<float>& row, Term term) {
    row.resize(image.columns + GAP);
    for (int64_t i = 0; i < blocks.rows; ++i) {
        in_row(image, [&](int64_t j) {
            V sum = term(size * i, j);
            for (int64_t k = 1; k < size; ++k) sum += term(size * i + k, j);
            store(row.data() + j, sum);
        });
        for (int64_t j = 0; j < blocks.columns; ++j) {
            float sum = 0.0f;  // from both sides to the middle: alike over the mirror image
            for (int64_t k = 0; 2 * k < size - 1; ++k) sum += row[size * j + k] + row[size * (j + 1) - 1 - k];
            blocks.row(i)[j] = size % 2 ? sum + row[size * j + size / 2] : sum;
        }
    }
}

// Repeats each block of a row over its `size` pixels.
void spread(const Map& blocks, int64_t i, int64_t size, float* row) {
    for (int64_t j = 0; j < blocks.columns; ++j) std::fill_n(row + size * j, size, blocks.row(i)[j]);
}

// --- information and structure -------------------------------------------------------------------------------------

constexpr float SCALED = 1.0f / (255.0f * 255.0f);  // images are in [0, 1] here, not in levels
constexpr float NOISE = 2.0f * SCALED, FLAT = 1e-2f * SCALED, LEAST_FIDELITY = 1e-3f;
constexpr float MEAN = 0.01f * 0.01f, SPREAD = 0.03f * 0.03f;

struct Scale {
    int64_t halved, block, blocks;  // the window: so many blocks along each axis, which are also its steps
    bool compares;                  // structures
};
constexpr Scale SCALES[] = {{1, 4, 3, false}, {2, 2, 3, true}, {2, 1, 4, false}, {2, 1, 2, false}};

class Fidelity {
public:
    Fidelity(const std::array<Map, 2>& source, const CfmMix& p) : information_(p.information), structure_(p.structure) {
        std::array<Map, 2> image = source;
        for (const Scale& scale : SCALES) {
            Level& level = levels_.emplace_back(scale);
            level.resize(image[0].rows / scale.halved, image[0].columns / scale.halved);
            for (int s = 0; s < 2 && scale.halved > 1; ++s) {
                halve(image[s], level.fused);
                image[s] = level.fused;
            }
            level.source = image;
            for (int s = 0; s < 2; ++s) {
                moments(level, image[s], row_);
                level.mean[s] = level.window[0];
                level.variance[s] = level.window[1];
                Sum present;
                for (int64_t i = 0; i < level.mean[s].rows; ++i)
                    in_row(level.mean[s], [&](int64_t j) {
                        float* variance = level.variance[s].row(i) + j;
                        store(variance, positive_part(load(variance)) * level.window[0].inside(j));
                        present += log1p_positive(load(variance) * (1.0f / NOISE));
                    });
                present_[s] += present;
            }
        }
    }

    void add_slope(const Map& fused, Map& slope) {
        double kept[2] = {};
        for (size_t k = 0; k < levels_.size(); ++k) {
            Level& level = levels_[k];
            if (k) halve(k > 1 ? levels_[k - 1].fused : fused, level.fused);
            moments(level, k ? level.fused : fused, row_);
            add_kept(level, kept);
        }
        float want[2];
        for (int s = 0; s < 2; ++s) {
            const double present = std::max(present_[s], 1e-6), share = kept[s] / present;
            want[s] = share < LEAST_FIDELITY ? 0.0f : static_cast<float>(-information_ / 4.0 / std::sqrt(share) / present);
        }
        for (size_t k = levels_.size(); k-- > 0;) {
            Level& level = levels_[k];
            window_slopes(level, want);
            Map& out = k ? level.slope : slope;
            if (k) clear(out);
            add_pixel_slopes(level, k ? level.fused : fused, out);
            if (k + 1 < levels_.size()) add_halved_slope(levels_[k + 1].slope, out);
        }
    }

private:
    struct Level : Scale {
        explicit Level(const Scale& scale) : Scale(scale) {}
        std::array<Map, 2> source, mean, variance;  // of the sources in windows: mean, variance
        std::array<Map, 4> sums;                    // of blocks: f, f^2, f A, f B; then the slopes by them
        std::array<Map, 4> window;                  // mean, variance, covariances; then the slopes by those sums
        Map fused, slope;

        void resize(int64_t rows, int64_t columns) {
            const int64_t down = rows / block, right = columns / block;
            for (Map& map : sums) map = Map(down, right);
            for (Map& map : window) map = Map(down - blocks + 1, right - blocks + 1);
            fused = slope = Map(rows, columns);
        }
    };

    static void clear(Map& map) {
        for (int64_t i = 0; i < map.rows; ++i) in_row(map, [&](int64_t j) { store(map.row(i) + j, V{}); });
    }

    void halve(const Map& image, Map& out) {
        sum_blocks(image, 2, out, row_, [&](int64_t i, int64_t j) { return 0.25f * load(image.row(i) + j); });
    }

    static void moments(Level& level, const Map& image, std::vector<float>& row) {
        const auto sums = [&](int which, auto term) { sum_blocks(image, level.block, level.sums[which], row, term); };
        sums(0, [&](int64_t i, int64_t j) { return load(image.row(i) + j); });
        sums(1, [&](int64_t i, int64_t j) { return load(image.row(i) + j) * load(image.row(i) + j); });
        for (int s = 0; s < 2; ++s)
            sums(2 + s, [&](int64_t i, int64_t j) { return load(image.row(i) + j) * load(level.source[s].row(i) + j); });
        const float side = static_cast<float>(level.block * level.blocks), share = 1.0f / (side * side);
        for (int64_t i = 0; i < level.window[0].rows; ++i)
            in_row(level.window[0], [&](int64_t j) {
                V mean[4];
                for (int which = 0; which < 4; ++which) mean[which] = share * window_sum(level, which, i, j);
                store(level.window[0].row(i) + j, mean[0]);
                store(level.window[1].row(i) + j, mean[1] - mean[0] * mean[0]);
                for (int s = 0; s < 2 && level.mean[s].rows; ++s)
                    store(level.window[2 + s].row(i) + j, mean[2 + s] - mean[0] * load(level.mean[s].row(i) + j));
            });
    }

    // The sum over the blocks of a window.
    static V window_sum(const Level& level, int which, int64_t i, int64_t j) {
        V columns[4]{};
        for (int64_t k = 0; k < level.blocks; ++k)
            for (int64_t l = 0; l < level.blocks; ++l) columns[l] += load(level.sums[which].row(i + k) + j + l);
        return from_both_sides(columns, level.blocks);
    }

    // The sum of 2 to 4 numbers, alike over the mirror image.
    static V from_both_sides(const V* columns, int64_t count) {
        if (count == 4) return (columns[0] + columns[3]) + (columns[1] + columns[2]);
        return count == 3 ? columns[0] + columns[2] + columns[1] : columns[0] + columns[1];
    }

    struct Kept {
        V gain, rest, ratio;
        Kept(V variance, V its_variance, V covariance) {
            gain = positive_part(covariance / (variance + FLAT));
            rest = its_variance - gain * covariance;
            ratio = gain * gain * variance / (positive_part(rest) + NOISE);
        }
    };

    static void add_kept(const Level& level, double* kept) {
        for (int s = 0; s < 2; ++s) {
            Sum sum;
            for (int64_t i = 0; i < level.window[0].rows; ++i)
                in_row(level.window[0], [&](int64_t j) {
                    const Kept now(load(level.variance[s].row(i) + j), load(level.window[1].row(i) + j),
                                   load(level.window[2 + s].row(i) + j));
                    sum += log1p_positive(now.ratio);  // 0 where the source's variance is 0, as beside the windows
                });
            kept[s] += sum;
        }
    }

    // Replaces the windows' moments by the loss's slopes by the windows' means of f, f^2, f A, f B.
    void window_slopes(Level& level, const float* want) const {
        const float alike = static_cast<float>(-structure_ / 2.0 / level.window[0].size()) * level.compares;
        const float side = static_cast<float>(level.block * level.blocks), share = 1.0f / (side * side);
        for (int64_t i = 0; i < level.window[0].rows; ++i)
            in_row(level.window[0], [&](int64_t j) {
                const V mean = load(level.window[0].row(i) + j), its_variance = load(level.window[1].row(i) + j);
                V of_mean{}, of_variance{}, of_covariance[2];
                for (int s = 0; s < 2; ++s) {
                    const V variance = load(level.variance[s].row(i) + j), covariance = load(level.window[2 + s].row(i) + j);
                    const Kept now(variance, its_variance, covariance);
                    const V each = want[s] / ((1.0f + now.ratio) * (positive_part(now.rest) + NOISE));
                    const V of_rest = now.rest > 0.0f ? -now.ratio * each : V{};
                    const V of_gain = 2.0f * now.gain * variance * each / (variance + FLAT);
                    of_variance += of_rest;
                    of_covariance[s] = covariance > 0.0f ? of_gain - 2.0f * now.gain * of_rest : V{};
                    const V its_mean = load(level.mean[s].row(i) + j);
                    if (level.compares) {
                        const V below = 1.0f / (its_mean * its_mean + mean * mean + MEAN);
                        const V spread = 1.0f / (variance + its_variance + SPREAD);
                        const V light = (2.0f * its_mean * mean + MEAN) * below;
                        const V form = (2.0f * covariance + SPREAD) * spread;
                        of_mean += alike * form * 2.0f * (its_mean - light * mean) * below;
                        of_variance -= alike * light * form * spread;
                        of_covariance[s] += alike * light * 2.0f * spread;
                    }
                    of_mean -= its_mean * of_covariance[s];
                }
                const V lanes = share * level.window[0].inside(j);
                store(level.window[0].row(i) + j, lanes * (of_mean - 2.0f * mean * of_variance));
                store(level.window[1].row(i) + j, lanes * 2.0f * of_variance);
                for (int s = 0; s < 2; ++s) store(level.window[2 + s].row(i) + j, lanes * of_covariance[s]);
            });
    }

    // Adds the slopes by the pixels: of each block by all windows that hold it, then of its pixels.
    void add_pixel_slopes(Level& level, const Map& fused, Map& slope) {
        for (int which = 0; which < 4; ++which)
            for (int64_t i = 0; i < level.sums[which].rows; ++i)
                in_row(level.sums[which], [&](int64_t j) {
                    V columns[4]{};
                    for (int64_t k = std::max<int64_t>(0, i - level.window[which].rows + 1); k < level.blocks && k <= i; ++k)
                        for (int64_t l = 0; l < level.blocks; ++l) columns[l] += load(level.window[which].row(i - k) + j - l);
                    store(level.sums[which].row(i) + j, from_both_sides(columns, level.blocks));
                });
        std::array<std::vector<float>, 4> wide;
        for (auto& row : wide) row.resize(fused.columns + GAP);
        for (int64_t i = 0; i < fused.rows; ++i) {
            if (i % level.block == 0)
                for (int which = 0; which < 4; ++which) spread(level.sums[which], i / level.block, level.block, wide[which].data());
            in_row(fused, [&](int64_t j) {
                V sum = load(wide[0].data() + j) + load(fused.row(i) + j) * load(wide[1].data() + j);
                for (int s = 0; s < 2; ++s) sum += load(level.source[s].row(i) + j) * load(wide[2 + s].data() + j);
                add(slope.row(i) + j, sum);
            });
        }
    }

    void add_halved_slope(const Map& half, Map& slope) {
        row_.resize(slope.columns + GAP);
        for (int64_t i = 0; i < slope.rows; ++i) {
            if (i % 2 == 0) spread(half, i / 2, 2, row_.data());
            in_row(slope, [&](int64_t j) { add(slope.row(i) + j, 0.25f * load(row_.data() + j)); });
        }
    }

    double information_, structure_, present_[2] = {};
    std::vector<Level> levels_;
    std::vector<float> row_;
};

// --- structures of one source ----------------------------------------------------------------------------------------

constexpr int64_t POOL = 4, SIZES[] = {3, 5}, SURROUND = 3;
constexpr float KEPT = 0.85f, LONE = 2.0f, CLEAR = 0.04f, STEEP = 0.05f;

// Means over size x size places, places beyond the border as those at it.
Map box_mean(const Map& image, int64_t size) {
    Map out(image.rows, image.columns), sums = out;
    const int64_t reach = size / 2;
    for (int64_t i = 0; i < image.rows; ++i) {
        in_row(image, [&](int64_t j) {
            V sum{};
            for (int64_t k = -reach; k <= reach; ++k) sum += load(image.clamped(i + k) + j);
            store(sums.row(i) + j, sum);
        });
        set_sides(sums, sums.row(i), reach);
        const float share = 1.0f / static_cast<float>(size * size);
        in_row(image, [&](int64_t j) {
            const float* at = sums.row(i) + j;
            V sum = load(at);
            for (int64_t k = 1; k <= reach; ++k) sum += load(at - k) + load(at + k);
            store(out.row(i) + j, share * sum);
        });
    }
    return out;
}

// Adds `factor` times the adjoint of box_mean.
void add_box_slope(const Map& slope, int64_t size, float factor, Map& out) {
    const int64_t reach = size / 2;
    const float share = factor / static_cast<float>(size * size);
    Map sums(slope.rows, slope.columns), given(1, slope.columns + 2 * reach), spread(1, slope.columns + 2 * reach);
    for (int64_t i = 0; i < slope.rows; ++i) {
        std::copy_n(slope.row(i), slope.columns, given.row(0) + reach);  // between places without a slope
        in_row(given, [&](int64_t j) {
            const float* at = given.row(0) + j;
            V sum = load(at);
            for (int64_t k = 1; k <= reach; ++k) sum += load(at - k) + load(at + k);
            store(spread.row(0) + j, share * sum);
        });
        float *row = sums.row(i), *first = spread.row(0), *last = first + spread.columns - 1;
        std::copy_n(first + reach, slope.columns, row);
        for (int64_t k = 0; k < reach; ++k) row[0] += first[k], row[slope.columns - 1] += last[-k];
        for (int64_t k = -reach; k <= reach; ++k) {
            float* to = out.row(std::clamp<int64_t>(i + k, 0, slope.rows - 1));
            in_row(slope, [&](int64_t j) { add(to + j, load(row + j)); });
        }
    }
}

class Lone {
public:
    Lone(const std::array<Map, 2>& source, const CfmMix& p) {
        Map places[2];
        for (int s = 0; s < 2; ++s) places[s] = pooled(source[s]);
        for (int64_t size : SIZES) {
            Map found[2] = {contrast(places[0], size), contrast(places[1], size)};
            Wanted wanted{size, found[0], found[0]};
            const float each = static_cast<float>(p.lesions / STEEP / found[0].size());
            for (int64_t i = 0; i < found[0].rows; ++i)
                for (int64_t j = 0; j < found[0].columns; ++j) {
                    const float a = found[0].row(i)[j], b = found[1].row(i)[j];
                    const float stronger = std::abs(a) >= std::abs(b) ? a : b, weaker = std::min(std::abs(a), std::abs(b));
                    wanted.least.row(i)[j] = KEPT * stronger;
                    wanted.weight.row(i)[j] = each * std::clamp((std::abs(stronger) - LONE * weaker) / CLEAR, 0.0f, 1.0f);
                }
            wanted_.push_back(wanted);
        }
    }

    void add_slope(const Map& fused, Map& slope) {
        const Map places = pooled(fused);
        Map of_places(places.rows, places.columns);
        for (const Wanted& wanted : wanted_) {
            Map found = contrast(places, wanted.size);
            for (int64_t i = 0; i < found.rows; ++i)
                in_row(found, [&](int64_t j) {
                    const V least = load(wanted.least.row(i) + j), weight = load(wanted.weight.row(i) + j);
                    const V lack = least - load(found.row(i) + j);  // of the sign of the structure where it lacks
                    const V rising = vmin(splat(STEEP), positive_part(lack)), falling = vmin(splat(STEEP), positive_part(-lack));
                    store(found.row(i) + j, weight * (least > 0.0f ? -rising : falling));
                });
            add_box_slope(found, wanted.size, 1.0f, of_places);
            add_box_slope(found, SURROUND * wanted.size, -1.0f, of_places);
        }
        row_.resize(fused.columns + GAP);
        for (int64_t i = 0; i < fused.rows; ++i) {
            if (i % POOL == 0) spread(of_places, i / POOL, POOL, row_.data());
            in_row(fused, [&](int64_t j) { add(slope.row(i) + j, load(row_.data() + j) * (1.0f / (POOL * POOL))); });
        }
    }

private:
    struct Wanted {
        int64_t size;
        Map least, weight;  // least contrast, with its sign
    };

    Map pooled(const Map& image) {
        Map out(image.rows / POOL, image.columns / POOL);
        sum_blocks(image, POOL, out, row_, [&](int64_t i, int64_t j) { return (1.0f / (POOL * POOL)) * load(image.row(i) + j); });
        return out;
    }

    static Map contrast(const Map& places, int64_t size) {
        Map out = box_mean(places, size);
        const Map around = box_mean(places, SURROUND * size);
        for (int64_t i = 0; i < out.rows; ++i)
            in_row(out, [&](int64_t j) { store(out.row(i) + j, load(out.row(i) + j) - load(around.row(i) + j)); });
        return out;
    }

    std::vector<Wanted> wanted_;
    std::vector<float> row_;
};

// --- the loss and its descent ----------------------------------------------------------------------------------------

constexpr double ENOUGH = 1.4, LEAST_VARIANCE = 1e-4;

// What is lacking of the correlations of differences, squared, and the mean distance to the brighter source.
class Correlation {
public:
    Correlation(const std::array<Map, 2>& source, const CfmMix& p) : weight_(p.correlation), brightness_(p.brightness) {
        for (int s = 0; s < 2; ++s) {
            const auto [sum, squares, product] = sums(source[s], source[s], nullptr);
            (void)product;
            mean_[s] = sum / source[s].size();
            variance_[s] = squares / source[s].size() - mean_[s] * mean_[s] + LEAST_VARIANCE;
        }
    }

    // Sets the slope: affine in the result and both sources.
    void set_slope(const std::array<Map, 2>& source, const Map& fused, Map& slope) const {
        const double n = fused.size();
        double mean[2], variance[2], covariance[2], lack = ENOUGH;
        for (int s = 0; s < 2 && weight_ != 0.0; ++s) {
            const auto [sum, squares, product] = sums(fused, source[s], &source[1 - s]);
            mean[s] = sum / n;
            variance[s] = squares / n - mean[s] * mean[s] + LEAST_VARIANCE;
            covariance[s] = product / n - mean[s] * mean_[s];
            lack -= covariance[s] / std::sqrt(variance[s] * variance_[s]);
        }
        double constant = -brightness_ / n, of_fused = 0.0, of_source[2] = {};
        for (int s = 0; s < 2 && weight_ != 0.0 && lack > 0.0; ++s) {
            const double scale = -weight_ * lack / n / std::sqrt(variance[s] * variance_[s]);
            const double pull = scale * covariance[s] / variance[s];
            of_source[s] += scale;
            of_fused -= pull;
            of_source[1 - s] += pull;
            constant += pull * mean[s] - scale * mean_[s];
        }
        const float c = static_cast<float>(constant), f = static_cast<float>(of_fused);
        const float a = static_cast<float>(of_source[0]), b = static_cast<float>(of_source[1]);
        for (int64_t i = 0; i < fused.rows; ++i)
            in_row(fused, [&](int64_t j) {
                const V sources = a * load(source[0].row(i) + j) + b * load(source[1].row(i) + j);
                store(slope.row(i) + j, f * load(fused.row(i) + j) + sources + c);
            });
    }

private:
    // Sums of x, x^2, x with the source, where x is the image less the other source; beside the image nothing counts.
    static std::array<double, 3> sums(const Map& image, const Map& source, const Map* other) {
        Sum sum, squares, product;
        for (int64_t i = 0; i < image.rows; ++i)
            in_row(image, [&](int64_t j) {
                V x = load(image.row(i) + j);
                if (other) x -= load(other->row(i) + j);
                x *= image.inside(j);
                sum += x;
                squares += x * x;
                product += x * load(source.row(i) + j);
            });
        return {sum, squares, product};
    }

    double weight_, brightness_, mean_[2], variance_[2];
};

Map read(const float* pixels, int64_t rows, int64_t columns) {
    Map map(rows, columns);
    for (int64_t i = 0; i < rows; ++i) {
        std::copy_n(pixels + i * columns, columns, map.row(i));
        set_sides(map, map.row(i));
    }
    return map;
}

void write(const Map& map, float* pixels) {
    for (int64_t i = 0; i < map.rows; ++i) std::copy_n(map.row(i), map.columns, pixels + i * map.columns);
}

class Loss {
public:
    Loss(const CfmMix& p, int64_t image)
        : source_{read(p.pair + 2 * image * p.rows * p.columns, p.rows, p.columns),
                  read(p.pair + (2 * image + 1) * p.rows * p.columns, p.rows, p.columns)},
          fused_(p.rows, p.columns), slope_(p.rows, p.columns), correlation_(source_, p), edges_(source_, p) {
        if (p.texture != 0.0) texture_.emplace_back(source_, p);
        if (p.information != 0.0 || p.structure != 0.0) fidelity_.emplace_back(source_, p);
        if (p.lesions != 0.0) lone_.emplace_back(source_, p);
    }

    // The slopes of the loss by the pixels of the result that has these shares of the first source.
    const Map& slope(const Map& share) {
        for (int64_t i = 0; i < share.rows; ++i) {
            in_row(share, [&](int64_t j) {
                const V second = load(source_[1].row(i) + j);
                store(fused_.row(i) + j, second + load(share.row(i) + j) * (load(source_[0].row(i) + j) - second));
            });
            set_sides(fused_, fused_.row(i));
        }
        correlation_.set_slope(source_, fused_, slope_);
        edges_.add_slope(fused_, slope_);
        for (Texture& texture : texture_) texture.add_slope(fused_, slope_);
        for (Fidelity& fidelity : fidelity_) fidelity.add_slope(fused_, slope_);
        for (Lone& lone : lone_) lone.add_slope(fused_, slope_);
        return slope_;
    }

    V apart(int64_t i, int64_t j) const { return load(source_[0].row(i) + j) - load(source_[1].row(i) + j); }

private:
    std::array<Map, 2> source_;
    Map fused_, slope_;
    Correlation correlation_;
    Edges edges_;
    std::vector<Texture> texture_;  // one, or none
    std::vector<Fidelity> fidelity_;
    std::vector<Lone> lone_;
};

constexpr double FIRST = 0.9, SECOND = 0.999;
constexpr float TINY = 1e-8f;

void refine(const CfmMix& p, int64_t image) {
    const int64_t first = image * p.rows * p.columns;
    Loss loss(p, image);
    Map share = read(p.share + first, p.rows, p.columns), mean(p.rows, p.columns), square = mean;
    const Map least = read(p.least + first, p.rows, p.columns), most = read(p.most + first, p.rows, p.columns);
    const Map none(p.rows, p.columns);
    const auto squares = [&](int64_t s) { return p.squares ? read(p.squares + 2 * first + s * p.rows * p.columns, p.rows, p.columns) : none; };
    const Map of_first = squares(0), of_second = squares(1);
    const float twice = static_cast<float>(2.0 / share.size());
    for (int64_t step = 1; step <= p.steps; ++step) {
        const Map& slope = loss.slope(share);
        const double falling = p.rate * static_cast<double>(p.steps + 1 - step) / static_cast<double>(p.steps);
        const float rate = static_cast<float>(falling / (1.0 - std::pow(FIRST, step)));
        const float whole = static_cast<float>(1.0 / (1.0 - std::pow(SECOND, step)));
        for (int64_t i = 0; i < p.rows; ++i)
            in_row(share, [&](int64_t j) {
                const V at = load(share.row(i) + j);
                const V shown = load(of_first.row(i) + j) * at - load(of_second.row(i) + j) * (1.0f - at);
                const V now = load(slope.row(i) + j) * loss.apart(i, j) + twice * shown;
                const V m = now + float(FIRST) * (load(mean.row(i) + j) - now);
                const V s = now * now + float(SECOND) * (load(square.row(i) + j) - now * now);
                store(mean.row(i) + j, m);
                store(square.row(i) + j, s);
                const V moved = at - rate * m / (vsqrt(s * whole) + TINY);
                store(share.row(i) + j, vmin(vmax(moved, load(least.row(i) + j)), load(most.row(i) + j)));
            });
    }
    write(share, p.share + first);
}

bool is_valid(const CfmMix& p) { return p.rows >= 16 && p.columns >= 16 && p.rows % 8 == 0 && p.columns % 8 == 0; }

int refine_all(const CfmMix& p) {
    if (!is_valid(p)) return 6;
    parallel_for(p.B, static_cast<int>(p.threads), [&](int64_t image) { refine(p, image); });
    return 0;
}

int slope_all(const CfmMix& p) {
    if (!is_valid(p)) return 6;
    parallel_for(p.B, static_cast<int>(p.threads), [&](int64_t image) {
        Loss loss(p, image);
        write(loss.slope(read(p.share + image * p.rows * p.columns, p.rows, p.columns)), p.slope + image * p.rows * p.columns);
    });
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_mix_refine(const CfmMix* mix) { return cfm::guarded(*mix, cfm::refine_all); }
extern "C" int cfm_mix_slope(const CfmMix* mix) { return cfm::guarded(*mix, cfm::slope_all); }
