// Refuses an order that is not a permutation: an index outside would write outside.
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
        return is_order(p.order, p.K, p.L) ? kernel(p) : 3;
    } catch (const std::bad_alloc&) {
        return 2;
    }
}

}  // namespace cfm
