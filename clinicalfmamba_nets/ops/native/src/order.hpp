// What guards the C interface: an order that is not a permutation is refused, for an index outside would write outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace cfm {

inline bool is_order(const int64_t* order, int64_t directions, int64_t length) {
    if (!order) return true;
    std::vector<uint8_t> seen(static_cast<std::size_t>(length));
    for (int64_t k = 0; k < directions; ++k)
        for (int64_t l = 0; l < length; ++l) {
            const int64_t token = order[k * length + l];
            if (token < 0 || token >= length || seen[token] != static_cast<uint8_t>(k & 1)) return false;
            seen[token] ^= 1;
        }
    return true;
}

// Runs a kernel that returns 0 or an error code; exceptions do not cross the C interface.
template <class Problem, class Kernel>
int guarded(const Problem& p, Kernel kernel) {
    try {
        return kernel(p);
    } catch (const std::bad_alloc&) {
        return 2;
    }
}

// The same for a kernel whose problem has an order.
template <class Problem, class Kernel>
int guarded_with_order(const Problem& p, Kernel kernel) {
    return guarded(p, [&](const Problem& q) { return is_order(q.order, q.K, q.L) ? kernel(q) : 3; });
}

}  // namespace cfm
