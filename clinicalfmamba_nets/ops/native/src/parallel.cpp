#include "parallel.hpp"

#include <atomic>
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

struct Job {
    int64_t tasks;
    void (*body)(const void*, int64_t);
    const void* context;
    std::atomic<int64_t> next{0};

    void work() {
        FlushDenormals flush;
        for (int64_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) body(context, i);
    }
};

void work_on(void* job) { static_cast<Job*>(job)->work(); }

}  // namespace

void run_tasks(int64_t tasks, int threads, void (*body)(const void*, int64_t), const void* context) {
    Job job{tasks, body, context};
    if (threads > tasks) threads = static_cast<int>(tasks);
    if (threads <= 1) return job.work();
    if (OmpParallel parallel = omp_parallel.load()) return parallel(work_on, &job, static_cast<unsigned>(threads), 0);
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work_on, &job);
    job.work();
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace cfm

extern "C" CFM_EXPORT void cfm_use_openmp(void* gomp_parallel) {
    static const int registered = pthread_atfork(nullptr, nullptr, cfm::forget_pool_in_child);
    (void)registered;
    cfm::omp_parallel.store(reinterpret_cast<cfm::OmpParallel>(gomp_parallel));
}
