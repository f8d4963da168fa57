// Loops over libtorch's own threads. There is no second pool that could compete with it.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/Parallel.h>

// One version of a function for each vector width; the loader takes what the machine has. Loops that are to be vectorised
// have to stand in such a function themselves: a lambda inside it is not cloned.
#if defined(__x86_64__) && defined(__linux__)
#define DEC_VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DEC_VECTORISED
#endif

namespace dec {

// Elements below which a second thread costs more than it brings.
constexpr int64_t kGrain = 16384;

// Rows of `width` elements below which a second thread costs more than it brings.
inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)); }

}  // namespace dec
