// Products whose left factor is mostly zeros, as what a ReLU returns and the gradient behind it are. Of a trained network's
// values between 5 and 45 in a hundred are not 0; the others cost next to nothing here.
//
// For each row of the left factor there is a list of what is not zero. A task takes some columns of the right factor, brings
// them into the first cache block by block, without the rows that nobody asks for, and adds to each row of the result the
// listed multiples, the sums in registers. Each value of the result is one sum in the order of the inner dimension, whoever
// computes it: the bits do not depend on the number of threads. A zero hides what it would be multiplied by, a NaN too.

#include "sparse.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "parallel.h"

namespace dec {
namespace {

// Columns that a task takes: half of AVX2's registers hold the sums of a row.
constexpr int64_t kPanel = 64;
// Rows of the right factor that are in the first cache at a time.
constexpr int64_t kBlock = 192;
// With more of the left factor's values than that not 0, a dense product is faster. (A half was, before MKL took its AVX2 kernels on AMD's
// processors; docs/BENCHMARKS-AVX2.md has both. Not looked for with AVX-512.)
constexpr double kDense = 0.3;
// The same where the dense product is bf16's, which multiplies some four times as fast.
constexpr double kDenseBf16 = 0.125;
// At least so many lines are sampled first; where their share of values other than 0 exceeds the limit so many times, the rest are not counted.
constexpr int64_t kSampled = 16;
constexpr double kByFar = 1.25;
// Values that are written to a list at a time, kept or not.
constexpr int64_t kAtOnce = 16;

// A matrix [rows, columns]; neighbours in a column and in a row lie `row` and `column` floats apart, and one of these is 1.
struct Matrix {
  const float* data;
  int64_t rows, columns, row, column;
};

bool as_matrix(const at::Tensor& tensor, Matrix& matrix) {
  matrix = {tensor.const_data_ptr<float>(), tensor.size(0), tensor.size(1), tensor.stride(0), tensor.stride(1)};
  return (matrix.column == 1 && matrix.row >= matrix.columns) || (matrix.row == 1 && matrix.column >= matrix.rows);
}

DEC_VECTORISED int32_t count_row(const float* __restrict values, int64_t count) {
  int32_t sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    sum += values[j] != 0.0F;
  }
  return sum;
}

DEC_VECTORISED void count_columns(const float* __restrict values, int32_t* __restrict counts, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    counts[j] += values[j] != 0.0F;
  }
}

using List = int64_t (*)(const float*, const int32_t*, int64_t, float*, int32_t*);

int64_t list_plain(const float* from, const int32_t* place, int64_t count, float* values, int32_t* places) {
  int64_t listed = 0;
  for (int64_t j = 0; j < count; ++j) {
    values[listed] = from[j];
    places[listed] = place[j];
    listed += from[j] != 0.0F;
  }
  return listed;
}

#if defined(__x86_64__)
// For each set of lanes, their numbers in ascending order.
struct Compressions {
  alignas(32) int32_t lanes[256][8];

  Compressions() : lanes{} {
    for (int set = 0; set < 256; ++set) {
      int listed = 0;
      for (int lane = 0; lane < 8; ++lane) {
        lanes[set][listed] = lane;
        listed += set >> lane & 1;
        listed = std::min(listed, 7);
      }
    }
  }
};

__attribute__((target("avx2,popcnt"))) int64_t list_avx2(const float* from, const int32_t* place, int64_t count, float* values,
                                                         int32_t* places) {
  static const Compressions compressions;
  int64_t listed = 0, j = 0;
  for (; j + 8 <= count; j += 8) {
    const __m256 value = _mm256_loadu_ps(from + j);
    const int kept = _mm256_movemask_ps(_mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(compressions.lanes[kept]));
    const __m256i number = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place + j));
    _mm256_storeu_ps(values + listed, _mm256_permutevar8x32_ps(value, order));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(places + listed), _mm256_permutevar8x32_epi32(number, order));
    listed += __builtin_popcount(static_cast<unsigned>(kept));
  }
  return listed + list_plain(from + j, place + j, count - j, values + listed, places + listed);
}

__attribute__((target("avx512f,popcnt"))) int64_t list_avx512(const float* from, const int32_t* place, int64_t count,
                                                              float* values, int32_t* places) {
  int64_t listed = 0;
  for (int64_t j = 0; j < count; j += kAtOnce) {
    const auto inside = static_cast<__mmask16>(count - j >= kAtOnce ? 0xffff : (1 << (count - j)) - 1);
    const __m512 value = _mm512_maskz_loadu_ps(inside, from + j);
    const __mmask16 kept = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512i number = _mm512_maskz_loadu_epi32(inside, place + j);
    _mm512_storeu_ps(values + listed, _mm512_maskz_compress_ps(kept, value));
    _mm512_storeu_si512(places + listed, _mm512_maskz_compress_epi32(kept, number));
    listed += __builtin_popcount(kept);
  }
  return listed;
}
#endif

// sums[kPanel] = beta * sums + the listed multiples of the tile's rows.
template <int kWidth>
DEC_INLINE void add_listed(const float* __restrict values, const int32_t* __restrict places, int64_t count,
                           const float* __restrict tile, float beta, float* __restrict sums) {
  typedef float Lanes __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
  constexpr int kLanes = kPanel / kWidth;
  Lanes sum[kLanes];
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes; ++lane) {
    sum[lane] = beta == 0.0F ? Lanes{} : beta * *reinterpret_cast<const Lanes*>(sums + lane * kWidth);
  }
  for (int64_t e = 0; e < count; ++e) {
    const float* row = tile + places[e] * kPanel;
    const float value = values[e];
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) {
      sum[lane] += value * *reinterpret_cast<const Lanes*>(row + lane * kWidth);
    }
  }
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes; ++lane) {
    *reinterpret_cast<Lanes*>(sums + lane * kWidth) = sum[lane];
  }
}

using Add = void (*)(const float*, const int32_t*, int64_t, const float*, float, float*);

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void add_avx512(const float* values, const int32_t* places, int64_t count,
                                                   const float* tile, float beta, float* sums) {
  add_listed<16>(values, places, count, tile, beta, sums);
}

__attribute__((target("avx2,fma"))) void add_avx2(const float* values, const int32_t* places, int64_t count,
                                                  const float* tile, float beta, float* sums) {
  add_listed<8>(values, places, count, tile, beta, sums);
}
#endif

void add_plain(const float* values, const int32_t* places, int64_t count, const float* tile, float beta, float* sums) {
  add_listed<4>(values, places, count, tile, beta, sums);
}

// Both inner loops for this processor.
struct Kernels {
  // Those of `count` values that are not 0, with their places; returns how many. Up to kAtOnce more may be written.
  List list = list_plain;
  // sums[kPanel] = beta * sums + the listed multiples of the tile's rows.
  Add add = add_plain;

  Kernels() {
#if defined(__x86_64__)
    if (vectors() == Vectors::kAvx512) {
      list = list_avx512;
      add = add_avx512;
    } else if (vectors() == Vectors::kAvx2) {
      list = list_avx2;
      add = add_avx2;
    }
#endif
  }
};

const Kernels& kernels() {
  static const Kernels chosen;
  return chosen;
}

// What is not zero in each row of a factor, by blocks of those of its columns that hold anything.
class Lists {
 public:
  explicit Lists(const Matrix& factor) : factor_(factor) {}

  // Counts; false if more than that part of the values are not zero. Where a few lines say so by far, the others are not counted.
  bool count(double most) {
    const int64_t stored = by_rows() ? factor_.rows : factor_.columns, length = by_rows() ? factor_.columns : factor_.rows;
    const int64_t apart = std::max<int64_t>(1, stored / kSampled);
    int64_t sampled = 0, looked_at = 0;
    for (int64_t i = 0; i < stored; i += apart) {
      sampled += count_row(line(i), length);
      looked_at += length;
    }
    if (static_cast<double>(sampled) > kByFar * most * static_cast<double>(looked_at)) {
      return false;
    }
    counts_.assign(static_cast<std::size_t>(length), 0);
    at::parallel_for(0, static_cast<int64_t>(counts_.size()), row_grain(stored), [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < stored; ++i) {
        count_columns(line(i) + begin, counts_.data() + begin, end - begin);
      }
    });
    const int64_t total = std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
    return static_cast<double>(total) <= most * static_cast<double>(factor_.rows * factor_.columns);
  }

  void fill() {
    if (by_rows()) {
      fill_rows();
    } else {
      fill_columns();
    }
  }

  // The factor's columns that hold anything.
  const std::vector<int32_t>& used() const { return used_; }
  int64_t blocks() const { return blocks_; }
  // Where the list of row i begins in block b; it ends where that of the next block begins.
  int64_t start(int64_t i, int64_t b) const { return starts_[static_cast<std::size_t>(i * (blocks_ + 1) + b)]; }
  const float* values() const { return values_.get(); }
  // Each value's place in `used`, counted from its block's first.
  const int32_t* places() const { return places_.get(); }

 private:
  bool by_rows() const { return factor_.column == 1; }
  const float* line(int64_t i) const { return factor_.data + i * (by_rows() ? factor_.row : factor_.column); }
  int64_t& start(int64_t i, int64_t b) { return starts_[static_cast<std::size_t>(i * (blocks_ + 1) + b)]; }

  void reserve(int64_t entries) {
    values_.reset(new float[static_cast<std::size_t>(entries + kAtOnce)]);
    places_.reset(new int32_t[static_cast<std::size_t>(entries + kAtOnce)]);
  }

  void set_blocks() {
    blocks_ = (static_cast<int64_t>(used_.size()) + kBlock - 1) / kBlock;
    starts_.resize(static_cast<std::size_t>(factor_.rows * (blocks_ + 1)));
  }

  void fill_rows() {
    std::vector<int32_t> place(counts_.size());
    std::vector<int64_t> bounds;
    for (std::size_t k = 0; k < counts_.size(); ++k) {
      if (counts_[k] > 0) {
        place[k] = static_cast<int32_t>(used_.size() % kBlock);
        if (place[k] == 0) {
          bounds.push_back(static_cast<int64_t>(k));
        }
        used_.push_back(static_cast<int32_t>(k));
      }
    }
    bounds.push_back(factor_.columns);
    set_blocks();
    at::parallel_for(0, factor_.rows, row_grain(factor_.columns), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        start(i, blocks_) = count_row(line(i), factor_.columns);
      }
    });
    int64_t entries = 0;
    for (int64_t i = 0; i < factor_.rows; ++i) {
      const int64_t first = entries;
      entries += start(i, blocks_) + kAtOnce;  // what a row writes too much is not another's
      start(i, 0) = first;
    }
    reserve(entries);
    at::parallel_for(0, factor_.rows, row_grain(factor_.columns), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t b = 0; b < blocks_; ++b) {
          const int64_t from = bounds[static_cast<std::size_t>(b)], to = bounds[static_cast<std::size_t>(b + 1)];
          start(i, b + 1) = start(i, b) + kernels().list(line(i) + from, place.data() + from, to - from,
                                                      values_.get() + start(i, b), places_.get() + start(i, b));
        }
      }
    });
  }

  void fill_columns() {
    used_.resize(static_cast<std::size_t>(factor_.columns));
    std::iota(used_.begin(), used_.end(), 0);
    std::vector<int32_t> row(counts_.size());
    std::iota(row.begin(), row.end(), 0);
    set_blocks();
    int64_t entries = 0;
    for (int64_t i = 0; i < factor_.rows; ++i) {
      start(i, 0) = entries;
      entries += counts_[static_cast<std::size_t>(i)];
    }
    reserve(entries);
    at::parallel_for(0, factor_.rows, row_grain(factor_.columns), [&](int64_t begin, int64_t end) {
      const auto width = static_cast<std::size_t>(end - begin);
      std::vector<float> values(width + kAtOnce);
      std::vector<int32_t> rows(width + kAtOnce);
      for (int64_t b = 0; b < blocks_; ++b) {
        for (int64_t i = begin; i < end; ++i) {
          start(i, b + 1) = start(i, b);
        }
        for (int64_t k = b * kBlock; k < std::min(factor_.columns, (b + 1) * kBlock); ++k) {
          const int64_t listed = kernels().list(line(k) + begin, row.data() + begin, end - begin, values.data(), rows.data());
          for (int64_t e = 0; e < listed; ++e) {
            const int64_t at = start(rows[static_cast<std::size_t>(e)], b + 1)++;
            values_[static_cast<std::size_t>(at)] = values[static_cast<std::size_t>(e)];
            places_[static_cast<std::size_t>(at)] = static_cast<int32_t>(k - b * kBlock);
          }
        }
      }
    });
  }

  Matrix factor_;
  // Values that are not 0, of each line across those that lie together in memory.
  std::vector<int32_t> counts_;
  std::vector<int32_t> used_;
  int64_t blocks_ = 0;
  std::vector<int64_t> starts_;
  std::unique_ptr<float[]> values_;
  std::unique_ptr<int32_t[]> places_;
};

// The given rows of `factor`, `width` columns from `first` on, as rows of kPanel.
void pack(const Matrix& factor, const int32_t* rows, int64_t count, int64_t first, int64_t width, float* __restrict tile) {
  if (factor.column == 1) {
    for (int64_t k = 0; k < count; ++k) {
      const float* row = factor.data + rows[k] * factor.row + first;
      std::copy(row, row + width, tile + k * kPanel);
    }
    return;
  }
  for (int64_t k = 0; k < count;) {
    // The rows of four neighbours, as far as they are asked for, are copied together.
    const int64_t window = rows[k];
    int64_t end = k + 1;
    for (; end < count && rows[end] < window + 4; ++end) {
    }
    const float* from = factor.data + first * factor.column + window;
    int64_t j = 0;
#if defined(__x86_64__)
    if (window + 4 <= factor.rows) {
      for (; j + 4 <= width; j += 4) {
        __m128 lines[4];
        for (int64_t c = 0; c < 4; ++c) {
          lines[c] = _mm_loadu_ps(from + (j + c) * factor.column);
        }
        _MM_TRANSPOSE4_PS(lines[0], lines[1], lines[2], lines[3]);
        for (int64_t row = k; row < end; ++row) {
          _mm_storeu_ps(tile + row * kPanel + j, lines[rows[row] - window]);
        }
      }
    }
#endif
    for (; j < width; ++j) {
      for (int64_t row = k; row < end; ++row) {
        tile[row * kPanel + j] = from[j * factor.column + rows[row] - window];
      }
    }
    k = end;
  }
}

void multiply(const Lists& lists, const Matrix& b, int64_t rows, float beta, float* out) {
  const Add add = kernels().add;
  const int64_t width = b.columns, panels = (width + kPanel - 1) / kPanel;
  const auto used = static_cast<int64_t>(lists.used().size());
  // Rows of a task: all of them, unless there are more threads than panels.
  const int64_t wanted = std::max<int64_t>(1, 4 * at::get_num_threads() / panels);
  const int64_t chunk = std::max<int64_t>(64, (rows + wanted - 1) / wanted), chunks = (rows + chunk - 1) / chunk;
  at::parallel_for(0, panels * chunks, 1, [&](int64_t begin, int64_t end) {
    alignas(64) float tile[kBlock * kPanel] = {};
    alignas(64) float ragged[kPanel] = {};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task / chunks * kPanel, count = std::min(kPanel, width - first);
      const int64_t from = task % chunks * chunk, to = std::min(rows, from + chunk);
      for (int64_t block = 0; block < std::max<int64_t>(1, lists.blocks()); ++block) {
        const int64_t at = block * kBlock;
        pack(b, lists.used().data() + at, std::min(kBlock, used - at), first, count, tile);
        const float keep = block == 0 ? beta : 1.0F;
        for (int64_t i = from; i < to; ++i) {
          const int64_t start = lists.start(i, block), listed = lists.blocks() == 0 ? 0 : lists.start(i, block + 1) - start;
          if (listed == 0 && keep == 1.0F) {
            continue;
          }
          float* sums = out + i * width + first;
          if (count == kPanel) {
            add(lists.values() + start, lists.places() + start, listed, tile, keep, sums);
          } else {
            std::copy(sums, sums + count, ragged);
            add(lists.values() + start, lists.places() + start, listed, tile, keep, ragged);
            std::copy(ragged, ragged + count, sums);
          }
        }
      }
    }
  });
}

}  // namespace

bool sparse_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta, bool bf16) {
  Matrix left, right;
  if (!as_matrix(a, left) || !as_matrix(b, right) || right.columns < kPanel / 2 || left.rows * left.columns < kGrain) {
    return false;
  }
  Lists lists(left);
  if (!lists.count(bf16 ? kDenseBf16 : kDense)) {
    return false;
  }
  lists.fill();
  multiply(lists, right, left.rows, beta, out.mutable_data_ptr<float>());
  return true;
}

}  // namespace dec
