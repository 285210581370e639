// Selective scan, backward: cuts the work into tasks and adds up what they share, always in the same order.
#include <memory>

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

// Sums over the chunks of channels: threads write apart and add up at the end, one thread adds as it goes.
template <int N>
class Parts {
public:
    Parts(const CfmScan& p, const Cut& cut) : p_(p), cut_(cut), slices_(p.S * p.K * p.B * p.G) {
        if (cut.chunks > 1 && p.threads > 1) parts_.reset(new float[2 * cut.chunks * slices_ * p.L * N]);
    }

    void place(Task& task, int64_t slice, int64_t chunk) const {
        task.add = !parts_ && chunk > 0;
        if (parts_) {
            task.dB = part(0, chunk, slice);
            task.dC = part(1, chunk, slice);
            task.dBs = task.dCs = {0, 0, 0, 0, N, 1};
            return;
        }
        task.dB = p_.dB + at(p_.dBs, task.slice.s, task.k, task.slice.b, task.slice.g);
        task.dC = p_.dC + at(p_.dCs, task.slice.s, task.k, task.slice.b, task.slice.g);
        task.dBs = p_.dBs;
        task.dCs = p_.dCs;
    }

    // Adds up one slice of dB (which = 0) or dC (1), tokens begin <= l < end.
    void finish(int64_t which, int64_t slice, const Task& task, int64_t begin, int64_t end) const {
        const CfmStateStrides& t = which ? p_.dCs : p_.dBs;
        float* out = (which ? p_.dC : p_.dB) + at(t, task.slice.s, task.k, task.slice.b, task.slice.g);
        for (int64_t first = begin; first < end; first += T)
            for (int n = 0; n < N; ++n)
                for (int64_t l = first; l < std::min<int64_t>(first + T, end); ++l) {
                    float sum = part(which, 0, slice)[l * N + n];
                    for (int64_t chunk = 1; chunk < cut_.chunks; ++chunk) sum += part(which, chunk, slice)[l * N + n];
                    out[l * t.l + n * t.n] = sum;
                }
    }

    bool apart() const { return parts_ != nullptr; }

private:
    float* part(int64_t which, int64_t chunk, int64_t slice) const {
        return parts_.get() + ((which * cut_.chunks + chunk) * slices_ + slice) * p_.L * N;
    }

    const CfmScan& p_;
    const Cut& cut_;
    int64_t slices_;
    std::unique_ptr<float[]> parts_;
};

template <int N>
int backward(const CfmScan& problem) {
    const Packed<N> packed(problem);
    const CfmScan& p = packed.problem;
    const Cut cut = cut_of(p);
    const int64_t slices = p.S * p.K * p.B * p.G, sk = p.S * p.K;
    const Totals dA(p.B, sk * p.D * N, p.dA), dD(p.B, sk * p.D, p.dD_skip), dbias(p.B, sk * p.D, p.ddelta_bias);
    const Parts<N> parts(p, cut);
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
        parts.place(task, index / cut.chunks, chunk);
        BackwardScratch<N> scratch;
        Backward<N>{p, cut, task, scratch}.run();
    });
    dA.finish();
    dD.finish();
    dbias.finish();
    if (!parts.apart()) return 0;
    const int64_t pieces = std::min<int64_t>(p.threads, cut.tiles), length = ceil_div(cut.tiles, pieces) * T;
    parallel_for(2 * slices * pieces, static_cast<int>(p.threads), [&](int64_t index) {
        const int64_t piece = index % pieces, which = index / pieces % 2, slice = index / pieces / 2;
        Task task{};
        place(task, slice);
        parts.finish(which, slice, task, piece * length, std::min(piece * length + length, p.L));
    });
    return 0;
}

}  // namespace
}  // namespace cfm

extern "C" int cfm_scan_backward(const CfmScan* scan) {
    switch (scan->N) {
        case 4: return cfm::guarded(*scan, cfm::backward<4>);
        case 8: return cfm::guarded(*scan, cfm::backward<8>);
        case 16: return cfm::guarded(*scan, cfm::backward<16>);
    }
    return 1;
}
