#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <pthread.h>

#include "abi.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cfm {
namespace {

using OmpParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<OmpParallel> omp_parallel{nullptr};

// libgomp's pool does not survive fork(): a child must not enter it again, so it gets threads of its own.
void forget_pool_in_child() { omp_parallel.store(nullptr); }

// Denormals are flushed inside a task (a decayed state would otherwise cost a hundred times more) and restored after.
class FlushDenormals {
public:
#if defined(__x86_64__)
    FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(saved_); }

private:
    unsigned saved_;
#elif defined(__aarch64__)
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t{1} << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

private:
    uint64_t saved_;
#else
    FlushDenormals() {}
#endif
};

// Each thread begins with a range of tasks of its own, the caller with the first: what one call has left in a core's
// cache, the next call finds there. A thread that is done helps with the other ranges.
struct Job {
    int64_t tasks;
    int threads;
    void (*body)(const void*, int64_t);
    const void* context;
    std::thread::id caller = std::this_thread::get_id();
    std::atomic<int> helpers{0};
    std::unique_ptr<std::atomic<int64_t>[]> taken{new std::atomic<int64_t>[threads]()};

    void work() {
        FlushDenormals flush;
        const int own = std::this_thread::get_id() == caller ? 0 : (helpers.fetch_add(1) + 1) % threads;
        for (int i = 0; i < threads; ++i) {
            const int range = (own + i) % threads;
            const int64_t begin = range * tasks / threads, size = (range + 1) * tasks / threads - begin;
            for (int64_t k = taken[range].fetch_add(1); k < size; k = taken[range].fetch_add(1))
                body(context, begin + k);
        }
    }
};

void work_on(void* job) { static_cast<Job*>(job)->work(); }

}  // namespace

}  // namespace cfm

extern "C" void cfm_run_tasks(int64_t tasks, int threads, void (*body)(const void*, int64_t), const void* context) {
    threads = static_cast<int>(std::clamp<int64_t>(tasks, 1, threads));
    cfm::Job job{tasks, threads, body, context};
    if (threads == 1) return job.work();
    if (cfm::OmpParallel parallel = cfm::omp_parallel.load()) return parallel(cfm::work_on, &job, static_cast<unsigned>(threads), 0);
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(cfm::work_on, &job);
    job.work();
    for (std::thread& helper : helpers) helper.join();
}

extern "C" CFM_EXPORT void cfm_use_openmp(void* gomp_parallel) {
    static const int registered = pthread_atfork(nullptr, nullptr, cfm::forget_pool_in_child);
    (void)registered;
    cfm::omp_parallel.store(reinterpret_cast<cfm::OmpParallel>(gomp_parallel));
}
