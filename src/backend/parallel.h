// Loops over libtorch's own threads, of which there is no second pool that could compete with it, by the widest vectors that there are.
//
// CXXFLAGS=-DDEC_AT_MOST=2 at the build leaves AVX-512 out, -DDEC_AT_MOST=1 AVX2 too, to see what each is worth.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/Parallel.h>
#include <omp.h>

// One version of a function for each vector width; the loader takes what the machine has. Loops that are to be vectorised
// have to stand in such a function themselves: a lambda inside it is not cloned.
#ifndef DEC_AT_MOST
#define DEC_AT_MOST 3
#endif
#if !defined(__x86_64__) || !defined(__linux__) || DEC_AT_MOST == 1
#define DEC_VECTORISED
#elif DEC_AT_MOST == 2
#define DEC_VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define DEC_VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

// What is to be part of each such version.
#define DEC_INLINE inline __attribute__((always_inline))

namespace dec {

// The instructions for kernels that are written out for each.
enum class Vectors { kPlain, kAvx2, kAvx512 };

inline Vectors vectors() {
#if defined(__x86_64__)
  if (DEC_AT_MOST >= 2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt")) {
    const bool wide = DEC_AT_MOST >= 3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    return wide ? Vectors::kAvx512 : Vectors::kAvx2;
  }
#endif
  return Vectors::kPlain;
}

// Elements below which a second thread costs more than it brings.
constexpr int64_t kGrain = 16384;

// Rows of `width` elements below which a second thread costs more than it brings.
inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)); }

// While it lives, OpenMP gives the calling thread's loops exactly as many threads as omp_get_max_threads() says.
//
// at::parallel_for divides its work by the threads that a loop got. oneDNN divides by those that it asked for, and leaves
// undone what was meant for the others: OMP_THREAD_LIMIT, OMP_DYNAMIC and OMP_MAX_ACTIVE_LEVELS all make them fewer.
class WholeTeam {
 public:
  WholeTeam() : threads_(at::get_num_threads()), dynamic_(omp_get_dynamic()) {
    const int most = omp_get_max_active_levels() < 1 ? 1 : omp_get_thread_limit();
    omp_set_dynamic(0);
    omp_set_num_threads(std::min(threads_, most));
  }
  ~WholeTeam() {
    omp_set_num_threads(threads_);
    omp_set_dynamic(dynamic_);
  }
  WholeTeam(const WholeTeam&) = delete;
  WholeTeam& operator=(const WholeTeam&) = delete;

 private:
  int threads_;
  int dynamic_;
};

}  // namespace dec
