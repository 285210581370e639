// Selective scan, backward: cuts the work into tasks and adds up what they share, always in the same order.
#include <memory>

#include "empty.hpp"
#include "order.hpp"
#include "parallel.hpp"
#include "scan_backward_task.hpp"

namespace cfm {
namespace {

// The cut depends on the shape alone: sums over channels keep their order whatever the number of threads.
Cut cut_of(const CfmScan& p) {
    constexpr int64_t ENOUGH = 4, SMALLEST = 128 / W;  // tasks to keep some threads busy; channels worth a task
    const int64_t slices = p.S * p.K * p.B * p.G, blocks = ceil_div(p.D / p.G, W);
    const int64_t wanted = std::max(ceil_div(blocks * slices, ENOUGH), SMALLEST);
    return Cut(p, std::min<int64_t>(wanted, CHUNK_BLOCKS));
}

// Sums over the batch: each task of a batch item has its own row, unless there is one item only.
class Totals {
public:
    Totals(int64_t batch, int64_t size, float* out) : batch_(batch), size_(size), out_(out) {
        if (batch > 1 || !out) rows_.reset(new float[batch * size]);
    }
    float* row(int64_t b, int64_t offset) const { return (rows_ ? rows_.get() + b * size_ : out_) + offset; }
    void finish() const {
        if (!rows_ || !out_) return;
        std::memcpy(out_, rows_.get(), size_ * sizeof(float));
        for (int64_t b = 1; b < batch_; ++b)
            for (int64_t i = 0; i < size_; ++i) out_[i] += rows_[b * size_ + i];
    }

private:
    int64_t batch_, size_;
    float* out_;
    std::unique_ptr<float[]> rows_;
};

// What a token gets from all channels: the gradients of B, C and the steps.
struct TokenSum {
    float* out;
    CfmStateStrides strides;
    int64_t size;  // numbers for each token
};

// Sums over the chunks of channels: threads write apart and add up at the end, one thread adds as it goes.
class Parts {
public:
    Parts(const CfmScan& p, const Cut& cut)
        : sums_{{p.dB, p.dBs, p.N}, {p.dC, p.dCs, p.N}, {p.dsteps, p.dstepss, p.R}},
          length_(p.L), chunks_(cut.chunks), slices_(p.S * p.K * p.B * p.G), size_(2 * p.N + p.R) {
        if (cut.chunks > 1 && p.threads > 1) parts_.reset(new float[cut.chunks * slices_ * p.L * size_]);
    }

    void place(Task& task, int64_t slice, int64_t chunk) const {
        task.add = !parts_ && chunk > 0;
        const auto put = [&](int which, float*& out, CfmStateStrides& strides) {
            const TokenSum& sum = sums_[which];
            out = parts_ ? part(which, chunk, slice) : sum.out + start(sum, task);
            strides = parts_ ? CfmStateStrides{0, 0, 0, 0, sum.size, 1} : sum.strides;
        };
        put(0, task.dB, task.dBs);
        put(1, task.dC, task.dCs);
        put(2, task.dsteps, task.dstepss);
    }

    // Adds up one slice, tokens begin <= l < end.
    void finish(int64_t slice, const Task& task, int64_t begin, int64_t end) const {
        for (int which = 0; which < 3; ++which) {
            const TokenSum& sum = sums_[which];
            float* out = sum.out + start(sum, task);
            for (int64_t first = begin; first < end; first += T)
                for (int64_t n = 0; n < sum.size; ++n)
                    for (int64_t l = first; l < std::min<int64_t>(first + T, end); ++l) {
                        const int64_t from = l * sum.size + n;
                        float total = part(which, 0, slice)[from];
                        for (int64_t chunk = 1; chunk < chunks_; ++chunk) total += part(which, chunk, slice)[from];
                        out[l * sum.strides.l + n * sum.strides.n] = total;
                    }
        }
    }

    bool apart() const { return parts_ != nullptr; }

private:
    static int64_t start(const TokenSum& sum, const Task& task) {
        return at(sum.strides, task.slice.s, task.k, task.slice.b, task.slice.g);
    }

    float* part(int which, int64_t chunk, int64_t slice) const {
        float* chunks = parts_.get() + chunk * slices_ * length_ * size_;
        for (int before = 0; before < which; ++before) chunks += slices_ * length_ * sums_[before].size;
        return chunks + slice * length_ * sums_[which].size;
    }

    TokenSum sums_[3];
    int64_t length_, chunks_, slices_, size_;
    std::unique_ptr<float[]> parts_;
};

template <int N>
int backward(const CfmScan& problem) {
    const Packed<N> packed(problem);
    const CfmScan& p = packed.problem;
    const Cut cut = cut_of(p);
    const int64_t slices = p.S * p.K * p.B * p.G, sk = p.S * p.K;
    const Totals dA(p.B, sk * p.D * N, p.dA), dD(p.B, sk * p.D, p.dD_skip), dbias(p.B, sk * p.D, p.ddelta_bias);
    const Totals dstep_weight(p.B, sk * p.D * p.R, p.ddt_weight);
    const Parts parts(p, cut);
    const auto place = [&](Task& task, int64_t slice) {
        task.slice.g = slice % p.G;
        task.slice.b = slice / p.G % p.B;
        task.k = slice / p.G / p.B % p.K;
        task.slice.s = slice / p.G / p.B / p.K;
    };
    parallel_for(slices * cut.chunks, static_cast<int>(p.threads), [&](int64_t index) {
        const int64_t chunk = index % cut.chunks;
        Task task{};
        place(task, index / cut.chunks);
        task.slice.block_begin = chunk * cut.chunk_blocks;
        task.slice.block_end = std::min(task.slice.block_begin + cut.chunk_blocks, cut.group_blocks);
        const int64_t own = (task.slice.s * p.K + task.k) * p.D;
        task.dA = dA.row(task.slice.b, own * N);
        task.dD = dD.row(task.slice.b, own);
        task.dbias = dbias.row(task.slice.b, own);
        task.dstep_weight = dstep_weight.row(task.slice.b, own * p.R);
        parts.place(task, index / cut.chunks, chunk);
        BackwardScratch<N> scratch;
        Backward<N>{p, cut, task, scratch}.run();
    });
    dA.finish();
    dD.finish();
    dbias.finish();
    dstep_weight.finish();
    if (!parts.apart()) return 0;
    const int64_t pieces = std::min<int64_t>(p.threads, cut.tiles), length = ceil_div(cut.tiles, pieces) * T;
    parallel_for(slices * pieces, static_cast<int>(p.threads), [&](int64_t index) {
        const int64_t piece = index % pieces, slice = index / pieces;
        Task task{};
        place(task, slice);
        parts.finish(slice, task, piece * length, std::min(piece * length + length, p.L));
    });
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_scan_backward(const CfmScan* scan) {
    if (cfm::is_empty(*scan)) return cfm::backward_of_nothing(*scan);
    switch (scan->N) {
        case 4: return cfm::guarded_with_order(*scan, cfm::backward<4>);
        case 8: return cfm::guarded_with_order(*scan, cfm::backward<8>);
        case 16: return cfm::guarded_with_order(*scan, cfm::backward<16>);
    }
    return 1;
}
