// Runs independent tasks on the threads of the caller's OpenMP runtime, or on threads of our own.
#pragma once

#include <cstdint>

// Calls body(context, task) once for every task in [0, tasks) on at most `threads` threads, the caller's among them.
// Which thread runs which task is not defined: a task must write only what no other task touches. In the C namespace:
// a library holds the kernels once for each kind of processor, and this once for all of them.
extern "C" void cfm_run_tasks(int64_t tasks, int threads, void (*body)(const void*, int64_t), const void* context);

namespace cfm {

template <class Body>
void parallel_for(int64_t tasks, int threads, const Body& body) {
    cfm_run_tasks(tasks, threads, [](const void* b, int64_t task) { (*static_cast<const Body*>(b))(task); }, &body);
}

}  // namespace cfm
