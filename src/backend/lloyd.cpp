// k-means over rows as they are stored, uint8 or float32, without a float32 copy of them or a matrix of all distances.
//
// Every result is a function of one row, or a sum in the rows' order, so that no bit depends on the number of threads
// or on which restarts are computed together.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include <ATen/ATen.h>

#include "guard.h"
#include "parallel.h"
#include "prefetch.h"

namespace {

constexpr int64_t kBlock = 128;        // rows made float32 at a time: 400 KB of MNIST's
constexpr int64_t kChunk = 1024;       // rows whose potentials are summed together
constexpr int64_t kTile = 5;           // centroids that meet a block of rows before the next ones do: these stay in L1
constexpr int64_t kNarrow = 32;        // up to so many features, vectors hold a feature of many rows
constexpr int64_t kColumns = 256;      // features of the sums that a thread updates at a time
constexpr int64_t kAhead = 6;          // rows that are fetched before they are needed
constexpr int64_t kPad = 16;           // rows and centroids are zero-padded to a multiple of the widest vector
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// x · scale − origin, in float32.
struct Rows {
  const void* data;
  bool bytes;
  int64_t d, width;  // features, and the same padded
  float scale;
  const float* origin;
};

int64_t padded(int64_t d) { return (d + kPad - 1) / kPad * kPad; }

Rows rows_of(const at::Tensor& rows, double scale, const at::Tensor& origin) {
  const int64_t d = rows.size(1);
  const bool bytes = rows.scalar_type() == at::kByte;
  return {rows.const_data_ptr(), bytes, d, padded(d), static_cast<float>(scale), origin.const_data_ptr<float>()};
}

// [count, d] as [count, padded(d)].
std::vector<float> pad(const float* from, int64_t count, int64_t d) {
  const int64_t width = padded(d);
  std::vector<float> to(static_cast<std::size_t>(count * width));
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to.data() + i * width, from + i * d, static_cast<std::size_t>(d) * sizeof(float));
  }
  return to;
}

// What is not exact in ‖x‖² + ‖c‖² − 2 x·c, relative to ‖x‖² + ‖c‖²: Higham's bound for sums of `width` products, of
// which each lane of the narrowest vector adds a quarter.
float distance_error(int64_t width) { return static_cast<float>(width / 4 + 16) * 0x1p-23f; }

// Calls work(task, scratch) for every task, on all threads; who is done takes the next one. No task may depend on
// another.
template <typename Scratch, typename Work>
void share(int64_t tasks, const Scratch& fresh, const Work& work) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(tasks, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    Scratch scratch = fresh;
    for (int64_t task = next++; task < tasks; task = next++) {
      work(task, scratch);
    }
  });
}

// ---- inner loops: bodies that are inlined into one function for each instruction set ----

template <int LANES>
struct Vector {
  typedef float type __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
  typedef int32_t index __attribute__((vector_size(LANES * sizeof(int32_t)), aligned(4), may_alias));
};

template <typename T>
DEC_INLINE void load(const Rows& rows, int64_t row, float* out) {
  const T* x = static_cast<const T*>(rows.data) + row * rows.d;
  const float scale = rows.scale;
  const float* origin = rows.origin;
  for (int64_t j = 0; j < rows.d; ++j) {
    out[j] = static_cast<float>(x[j]) * scale - origin[j];
  }
  for (int64_t j = rows.d; j < rows.width; ++j) {
    out[j] = 0;
  }
}

DEC_INLINE void load(const Rows& rows, int64_t row, float* out) {
  rows.bytes ? load<uint8_t>(rows, row, out) : load<float>(rows, row, out);
}

template <int LANES>
DEC_INLINE float add_lanes(const typename Vector<LANES>::type* sums) {
  float part[LANES];
  std::memcpy(part, sums, sizeof(part));
#pragma GCC unroll 8
  for (int half = LANES / 2; half > 0; half /= 2) {
#pragma GCC unroll 16
    for (int lane = 0; lane < half; ++lane) {
      part[lane] += part[lane + half];
    }
  }
  return part[0];
}

// Products of ROWS rows with COLS centroids, out[r * COLS + c]. The order of the sum is the same for any ROWS and COLS.
template <int LANES, int ROWS, int COLS>
DEC_INLINE void dots(const float* const* x, const float* centroids, int64_t width, float* out) {
  using V = typename Vector<LANES>::type;
  V sums[ROWS][COLS] = {};
  for (int64_t j = 0; j < width; j += LANES) {
    V a[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      a[r] = *reinterpret_cast<const V*>(x[r] + j);
    }
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) {
      const V b = *reinterpret_cast<const V*>(centroids + c * width + j);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        sums[r][c] += a[r] * b;
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) {
      out[r * COLS + c] = add_lanes<LANES>(&sums[r][c]);
    }
  }
}

struct Assignment {
  Rows rows;
  const float* row_norms;   // [n], ‖x‖²
  int64_t n, k, n_active;
  const float* centroids;   // [n_active, k, width]
  const float* half_norms;  // [n_active, k], ‖c‖²/2
  const float* largest;     // [n_active], the largest ‖c‖²
  const float* own;         // [n_active, k], how far a centroid has moved in all
  const float* others;      // [n_active, k], how far, step by step, the farthest-moving other one has
  const int64_t* active;    // the restarts
  float* thresholds;        // [restarts, n]
  float* lower;             // [restarts, n]
  float* upper;             // [restarts, n]
  int32_t* labels;          // [restarts, n]
};

// Float32 sums of bounds and drifts, and the drifts themselves, are rounded: this much of them is given away.
constexpr float kSafe = 1 - 0x1p-20f;

// Scratch of one thread.
struct Block {
  std::vector<float> x;
  bool have[kBlock];
  int32_t list[kBlock + kPad];
  const float* at[kBlock];
  float best[kBlock + kPad], second[kBlock + kPad];
  int32_t label[kBlock + kPad];
  // Of at most kNarrow features, the rows as [d, kBlock].
  float by_feature[kNarrow * kBlock];
};

DEC_INLINE void offer(float score, int32_t label, float& best, float& second, int32_t& best_label) {
  const bool better = score < best;
  second = better ? best : std::min(second, score);
  best_label = better ? label : best_label;
  best = better ? score : best;
}

// Products of COUNT rows, each with a centroid of its own. The same order of sums as `dots` has.
template <int LANES, int COUNT>
DEC_INLINE void own_dots(const float* const* x, const float* const* centroids, int64_t width, float* out) {
  using V = typename Vector<LANES>::type;
  V sums[COUNT] = {};
  for (int64_t j = 0; j < width; j += LANES) {
#pragma GCC unroll 8
    for (int r = 0; r < COUNT; ++r) {
      sums[r] += *reinterpret_cast<const V*>(x[r] + j) * *reinterpret_cast<const V*>(centroids[r] + j);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < COUNT; ++r) {
    out[r] = add_lanes<LANES>(&sums[r]);
  }
}

// The row's place in the block as float32.
DEC_INLINE const float* fetch(const Rows& rows, Block& block, int64_t first, int32_t i) {
  float* x = block.x.data() + i * rows.width;
  if (!block.have[i]) {
    load(rows, first + i, x);
    block.have[i] = true;
  }
  return x;
}

// Products of LANES rows, feature j at x + j * stride, with COLS centroids: out[c] holds the rows' products.
template <int LANES, int COLS>
DEC_INLINE void narrow_dots(const float* x, int64_t stride, const float* centroids, int64_t d, int64_t width,
                            typename Vector<LANES>::type* out) {
  using V = typename Vector<LANES>::type;
  V sums[COLS] = {};
  for (int64_t j = 0; j < d; ++j) {
    const V a = *reinterpret_cast<const V*>(x + j * stride);
#pragma GCC unroll 8
    for (int c = 0; c < COLS; ++c) {
      sums[c] += a * centroids[c * width + j];
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < COLS; ++c) {
    out[c] = sums[c];
  }
}

// The rows [first, last) by features; nothing in the lanes beyond them.
DEC_INLINE void turn(const Rows& rows, Block& block, int64_t first, int64_t last) {
  for (int64_t i = 0; i < last - first; ++i) {
    float* x = block.x.data();
    load(rows, first + i, x);
    for (int64_t j = 0; j < rows.d; ++j) {
      block.by_feature[j * kBlock + i] = x[j];
    }
  }
  const int64_t end = std::min(kBlock, (last - first + kPad - 1) / kPad * kPad);
  for (int64_t i = last - first; i < end; ++i) {
    for (int64_t j = 0; j < rows.d; ++j) {
      block.by_feature[j * kBlock + i] = 0;
    }
  }
}

// The two least scores of the `count` listed rows and the label of the least.
template <int LANES, int COLS>
DEC_INLINE void narrow_scores(const Assignment& to, Block& block, int64_t a, int64_t count, bool all) {
  using V = typename Vector<LANES>::type;
  using I = typename Vector<LANES>::index;
  const int64_t d = to.rows.d, width = to.rows.width, k = to.k;
  const float* centroids = to.centroids + a * k * width;
  const float* half_norms = to.half_norms + a * k;
  for (int64_t m = count; m < count + LANES; ++m) {
    block.list[m] = block.list[count - 1];
  }
  float gathered[kNarrow * LANES];
  for (int64_t m = 0; m < count; m += LANES) {
    const float* x = block.by_feature + m;
    int64_t stride = kBlock;
    if (!all) {
      for (int64_t j = 0; j < d; ++j) {
        for (int lane = 0; lane < LANES; ++lane) {
          gathered[j * LANES + lane] = block.by_feature[j * kBlock + block.list[m + lane]];
        }
      }
      x = gathered;
      stride = LANES;
    }
    V best = V{} + kInfinity, second = best;
    I label = {};
    const auto meet = [&](auto constant, int64_t c) __attribute__((always_inline)) {
      constexpr int C = decltype(constant)::value;
      V out[C];
      narrow_dots<LANES, C>(x, stride, centroids + c * width, d, width, out);
      for (int i = 0; i < C; ++i) {
        const V score = half_norms[c + i] - out[i];
        const I better = score < best;
        const I closer = score < second;
        second = better ? best : (closer ? score : second);
        label = better ? I{} + static_cast<int32_t>(c + i) : label;
        best = better ? score : best;
      }
    };
    int64_t c = 0;
    for (; c + COLS <= k; c += COLS) {
      meet(std::integral_constant<int, COLS>(), c);
    }
    for (; c < k; ++c) {
      meet(std::integral_constant<int, 1>(), c);
    }
    std::memcpy(block.best + m, &best, sizeof(best));
    std::memcpy(block.second + m, &second, sizeof(second));
    std::memcpy(block.label + m, &label, sizeof(label));
  }
}

// Labels of the rows [first, last), for those restarts and rows whose label may have changed.
//
// By the triangle inequality (Hamerly 2010) a row's distance to its centroid is at most what it was, plus what the
// centroid has moved since, and its distance to any other at least what the second nearest's was, less what the others
// have. While the first is below the second the label stays. Where only the moves of its own centroid are in the way,
// that one distance is found anew before all of them are. With `own` and `others` running sums, the bounds are stored
// as of the sums' beginning, and a row has to be looked at when own + others reaches its threshold.
template <int LANES, int ROWS, int COLS>
DEC_INLINE void assign_block(const Assignment& to, Block& block, int64_t first, int64_t last) {
  const int64_t width = to.rows.width, k = to.k;
  const float error = distance_error(width);
  const bool narrow = to.rows.d <= kNarrow;
  std::memset(block.have, 0, sizeof(block.have));
  if (narrow) {
    turn(to.rows, block, first, last);
  }
  for (int64_t a = 0; a < to.n_active; ++a) {
    const int64_t offset = to.active[a] * to.n + first;
    float* thresholds = to.thresholds + offset;
    float* lower = to.lower + offset;
    float* upper = to.upper + offset;
    int32_t* labels = to.labels + offset;
    const float* own = to.own + a * k;
    const float* others = to.others + a * k;
    int64_t doubtful = 0;
    for (int64_t i = 0; i < last - first; ++i) {
      const int64_t label = std::clamp<int64_t>(labels[i], 0, k - 1);
      block.list[doubtful] = static_cast<int32_t>(i);
      doubtful += thresholds[i] <= own[label] + others[label];
    }
    int64_t count = 0, pending = 0;
    int32_t check[4];
    const auto tighten = [&](auto constant, const int32_t* check) __attribute__((always_inline)) {
      constexpr int COUNT = decltype(constant)::value;
      const float *x[COUNT], *centroids[COUNT];
      float out[COUNT];
      for (int r = 0; r < COUNT; ++r) {
        x[r] = fetch(to.rows, block, first, check[r]);
        centroids[r] = to.centroids + (a * k + std::clamp<int64_t>(labels[check[r]], 0, k - 1)) * width;
      }
      own_dots<LANES, COUNT>(x, centroids, width, out);
      for (int r = 0; r < COUNT; ++r) {
        const int32_t i = check[r];
        const int64_t label = std::clamp<int64_t>(labels[i], 0, k - 1);
        const float norm = to.row_norms[first + i], margin = error * (norm + to.largest[a]);
        const float near = std::sqrt(std::max(norm + 2 * (to.half_norms[a * k + label] - out[r]), 0.0f) + margin);
        const float slack = lower[i] * kSafe - others[label] - near;
        if (slack > 0) {
          upper[i] = near;
          thresholds[i] = (slack + own[label] + others[label]) * kSafe;
        } else {
          block.list[count++] = i;
        }
      }
    };
    for (int64_t m = 0; m < doubtful; ++m) {
      const int32_t i = block.list[m];
      const int64_t label = std::clamp<int64_t>(labels[i], 0, k - 1);
      if (narrow || labels[i] < 0 || upper[i] >= lower[i] - others[label]) {
        block.list[count++] = i;
        continue;
      }
      check[pending++] = i;
      if (pending == 4) {
        tighten(std::integral_constant<int, 4>(), check);
        pending = 0;
      }
    }
    for (int64_t m = 0; m < pending; ++m) {
      tighten(std::integral_constant<int, 1>(), check + m);
    }
    if (count == 0) {
      continue;
    }
    if (narrow) {
      narrow_scores<LANES, COLS>(to, block, a, count, count == last - first);
    }
    for (int64_t m = 0; !narrow && m < count; ++m) {
      block.at[m] = fetch(to.rows, block, first, block.list[m]);
      block.best[m] = block.second[m] = kInfinity;
      block.label[m] = 0;
    }
    for (int64_t tile = 0; !narrow && tile < k; tile += kTile) {
      const int64_t end = std::min(k, tile + kTile);
      int64_t m = 0;
      const auto meet = [&](auto rows_constant, auto cols_constant, int64_t c) __attribute__((always_inline)) {
        constexpr int R = decltype(rows_constant)::value, C = decltype(cols_constant)::value;
        float out[R * C];
        dots<LANES, R, C>(block.at + m, to.centroids + (a * k + c) * width, width, out);
        for (int r = 0; r < R; ++r) {
          for (int i = 0; i < C; ++i) {
            offer(to.half_norms[a * k + c + i] - out[r * C + i], static_cast<int32_t>(c + i), block.best[m + r],
                  block.second[m + r], block.label[m + r]);
          }
        }
      };
      using Rows1 = std::integral_constant<int, 1>;
      using RowsN = std::integral_constant<int, ROWS>;
      using Cols1 = std::integral_constant<int, 1>;
      using ColsN = std::integral_constant<int, COLS>;
      for (; m + ROWS <= count; m += ROWS) {
        int64_t c = tile;
        for (; c + COLS <= end; c += COLS) {
          meet(RowsN(), ColsN(), c);
        }
        for (; c < end; ++c) {
          meet(RowsN(), Cols1(), c);
        }
      }
      for (; m < count; ++m) {
        int64_t c = tile;
        for (; c + COLS <= end; c += COLS) {
          meet(Rows1(), ColsN(), c);
        }
        for (; c < end; ++c) {
          meet(Rows1(), Cols1(), c);
        }
      }
    }
    for (int64_t m = 0; m < count; ++m) {
      const float norm = to.row_norms[first + block.list[m]];
      const float margin = error * (norm + to.largest[a]);
      block.best[m] = std::sqrt(std::max(norm + 2 * block.best[m], 0.0f) + margin);
      block.second[m] = std::sqrt(std::max(norm + 2 * block.second[m] - margin, 0.0f));
    }
    for (int64_t m = 0; m < count; ++m) {
      const int32_t i = block.list[m];
      const float near = block.best[m], far = block.second[m];
      labels[i] = block.label[m];
      upper[i] = near;
      lower[i] = (far + others[block.label[m]]) * kSafe;
      const float slack = lower[i] * kSafe - others[block.label[m]] - near;
      thresholds[i] = slack > 0 ? (slack + own[block.label[m]] + others[block.label[m]]) * kSafe : -1.0f;
    }
  }
}

struct Seeding {
  Rows rows;
  const float* row_norms;   // [n], ‖x‖²
  int64_t n, n_restarts, n_candidates;
  const float* candidates;  // [n_restarts, n_candidates, width]
  const float* norms;       // [n_restarts, n_candidates]
  float* closest;           // [n_restarts, n]
};

// `seed_block` for few features.
template <int LANES, int COLS>
DEC_INLINE void narrow_seed(const Seeding& to, Block& block, int64_t first, int64_t last, double* sums) {
  using V = typename Vector<LANES>::type;
  const int64_t width = to.rows.width, columns = to.n_restarts * to.n_candidates;
  const float error = distance_error(width);
  turn(to.rows, block, first, last);
  for (int64_t i = 0; i < last - first; i += LANES) {
    const int64_t lanes = std::min<int64_t>(LANES, last - first - i);
    const auto meet = [&](auto constant, int64_t c) __attribute__((always_inline)) {
      constexpr int C = decltype(constant)::value;
      V out[C];
      narrow_dots<LANES, C>(block.by_feature + i, kBlock, to.candidates + c * width, to.rows.d, width, out);
      for (int col = 0; col < C; ++col) {
        float* closest = to.closest + (c + col) / to.n_candidates * to.n + first + i;
        const float* row_norms = to.row_norms + first + i;
        float products[LANES];
        std::memcpy(products, &out[col], sizeof(products));
        for (int lane = 0; lane < lanes; ++lane) {
          const float both = row_norms[lane] + to.norms[c + col];
          const float distance = both - 2 * products[lane];
          const float least = std::min(distance > error * both ? distance : 0.0f, closest[lane]);
          if (sums != nullptr) {
            sums[c + col] += least;
          } else {
            closest[lane] = least;
          }
        }
      }
    };
    int64_t c = 0;
    for (; c + COLS <= columns; c += COLS) {
      meet(std::integral_constant<int, COLS>(), c);
    }
    for (; c < columns; ++c) {
      meet(std::integral_constant<int, 1>(), c);
    }
  }
}

// Squared distances of the rows [first, last) to every candidate: each row's least one, with what `closest` has, is
// added to `sums`, or becomes `closest` where `sums` is null.
template <int LANES, int ROWS, int COLS>
DEC_INLINE void seed_block(const Seeding& to, Block& block, int64_t first, int64_t last, double* sums) {
  const int64_t width = to.rows.width, columns = to.n_restarts * to.n_candidates;
  const float error = distance_error(width);
  if (to.rows.d <= kNarrow) {
    narrow_seed<LANES, COLS>(to, block, first, last, sums);
    return;
  }
  for (int64_t i = 0; i < last - first; ++i) {
    block.at[i] = block.x.data() + i * width;
    load(to.rows, first + i, block.x.data() + i * width);
  }
  int64_t i = 0;
  const auto meet = [&](auto rows_constant, auto cols_constant, int64_t c) __attribute__((always_inline)) {
    constexpr int R = decltype(rows_constant)::value, C = decltype(cols_constant)::value;
    float out[R * C];
    dots<LANES, R, C>(block.at + i, to.candidates + c * width, width, out);
    for (int col = 0; col < C; ++col) {
      float* closest = to.closest + (c + col) / to.n_candidates * to.n + first + i;
      for (int r = 0; r < R; ++r) {
        const float both = to.row_norms[first + i + r] + to.norms[c + col];
        const float distance = both - 2 * out[r * C + col];
        // A row is at no distance from itself, whatever was rounded.
        const float least = std::min(distance > error * both ? distance : 0.0f, closest[r]);
        if (sums != nullptr) {
          sums[c + col] += least;
        } else {
          closest[r] = least;
        }
      }
    }
  };
  using Rows1 = std::integral_constant<int, 1>;
  using RowsN = std::integral_constant<int, ROWS>;
  using Cols1 = std::integral_constant<int, 1>;
  using ColsN = std::integral_constant<int, COLS>;
  for (; i + ROWS <= last - first; i += ROWS) {
    int64_t c = 0;
    for (; c + COLS <= columns; c += COLS) {
      meet(RowsN(), ColsN(), c);
    }
    for (; c < columns; ++c) {
      meet(RowsN(), Cols1(), c);
    }
  }
  for (; i < last - first; ++i) {
    int64_t c = 0;
    for (; c + COLS <= columns; c += COLS) {
      meet(Rows1(), ColsN(), c);
    }
    for (; c < columns; ++c) {
      meet(Rows1(), Cols1(), c);
    }
  }
}

// Adds row x to `to`, and takes it from `from` where there is one.
template <typename T>
DEC_INLINE void move_row(const T* __restrict x, int64_t n, double* __restrict from, double* __restrict to) {
  if (from == nullptr) {
    for (int64_t j = 0; j < n; ++j) {
      to[j] += static_cast<double>(x[j]);
    }
  } else {
    for (int64_t j = 0; j < n; ++j) {
      const double value = static_cast<double>(x[j]);
      to[j] += value;
      from[j] -= value;
    }
  }
}

struct Moves {
  const void* data;
  bool bytes;
  int64_t d;
  const int32_t* labels;    // from the first row of the range on
  const int32_t* previous;  // the same, before; −1: none
  double* sums;             // [k, d]
};

template <typename T>
DEC_INLINE void move_rows(const Moves& moves, const std::vector<int32_t>& list, int64_t first, int64_t length) {
  const int32_t* rows = list.data();
  const int64_t count = static_cast<int64_t>(list.size());
  for (int64_t m = 0; m < count; ++m) {
    const int64_t i = rows[m];
    const int64_t ahead = rows[std::min(m + kAhead, count - 1)];
    const T* next = static_cast<const T*>(moves.data) + ahead * moves.d + first;
    dec::prefetch(next, length * static_cast<int64_t>(sizeof(T)));
    const int32_t old = moves.previous[i];
    move_row(static_cast<const T*>(moves.data) + i * moves.d + first, length,
             old < 0 ? nullptr : moves.sums + old * moves.d + first, moves.sums + moves.labels[i] * moves.d + first);
  }
}

// The nearest centroid of one row by direct differences, squared and summed in float32 in kPad partial sums; the first
// of equally near ones.
DEC_INLINE int64_t nearest(const float* x, const float* centroids, int64_t k, int64_t width) {
  using V = Vector<kPad>::type;
  float least = kInfinity;
  int64_t label = 0;
  for (int64_t c = 0; c < k; ++c) {
    V sums = {};
    for (int64_t j = 0; j < width; j += kPad) {
      const V difference =
          *reinterpret_cast<const V*>(x + j) - *reinterpret_cast<const V*>(centroids + c * width + j);
      sums += difference * difference;
    }
    float distance = 0;
    for (int lane = 0; lane < kPad; ++lane) {
      distance += sums[lane];
    }
    if (distance < least) {
      least = distance;
      label = c;
    }
  }
  return label;
}

// ---- one function for each instruction set, with the tile that its registers hold ----

#define DEC_KERNELS(NAME, TARGET, LANES, ROWS, COLS)                                                                \
  TARGET void assign_##NAME(const Assignment& to, Block& block, int64_t first, int64_t last) {                      \
    assign_block<LANES, ROWS, COLS>(to, block, first, last);                                                        \
  }                                                                                                                 \
  TARGET void seed_##NAME(const Seeding& to, Block& block, int64_t first, int64_t last, double* sums) {             \
    seed_block<LANES, ROWS, COLS>(to, block, first, last, sums);                                                    \
  }                                                                                                                 \
  TARGET void move_##NAME(const Moves& moves, const std::vector<int32_t>& list, int64_t first, int64_t length) {    \
    moves.bytes ? move_rows<uint8_t>(moves, list, first, length) : move_rows<float>(moves, list, first, length);    \
  }                                                                                                                 \
  TARGET int64_t nearest_##NAME(const float* x, const float* centroids, int64_t k, int64_t width) {                 \
    return nearest(x, centroids, k, width);                                                                         \
  }                                                                                                                 \
  constexpr Kernels NAME = {assign_##NAME, seed_##NAME, move_##NAME, nearest_##NAME};

struct Kernels {
  void (*assign)(const Assignment&, Block&, int64_t, int64_t);
  void (*seed)(const Seeding&, Block&, int64_t, int64_t, double*);
  void (*move)(const Moves&, const std::vector<int32_t>&, int64_t, int64_t);
  int64_t (*nearest)(const float*, const float*, int64_t, int64_t);
};

DEC_KERNELS(narrow, , 4, 2, 5)
#if defined(__x86_64__)
DEC_KERNELS(avx2, __attribute__((target("avx2,fma"))), 8, 2, 5)
DEC_KERNELS(avx512, __attribute__((target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw"))), 16, 4, 5)
#endif

const Kernels& kernels() {
#if defined(__x86_64__)
  static const Kernels& chosen = dec::vectors() == dec::Vectors::kAvx512  ? avx512
                                 : dec::vectors() == dec::Vectors::kAvx2 ? avx2
                                                                          : narrow;
  return chosen;
#else
  return narrow;
#endif
}

Block block_of(const Rows& rows) {
  Block block;
  block.x.resize(static_cast<std::size_t>(kBlock * rows.width));
  return block;
}

// The row as scaled float32, as training sees it: rounded once, with no origin taken away.
void scaled(const at::Tensor& rows, int64_t row, float scale, float* out) {
  const int64_t d = rows.size(1);
  if (rows.scalar_type() == at::kByte) {
    const uint8_t* x = rows.const_data_ptr<uint8_t>() + row * d;
    for (int64_t j = 0; j < d; ++j) {
      out[j] = static_cast<float>(x[j]) * scale;
    }
  } else {
    const float* x = rows.const_data_ptr<float>() + row * d;
    for (int64_t j = 0; j < d; ++j) {
      out[j] = x[j] * scale;
    }
  }
}

template <typename T>
void column_sums(const T* rows, int64_t n, int64_t d, float scale, const int32_t* labels, double* sums, int64_t first,
                 int64_t last) {
  for (int64_t i = 0; i < n; ++i) {
    double* to = sums + labels[i] * d;
    for (int64_t j = first; j < last; ++j) {
      to[j] += static_cast<double>(static_cast<float>(rows[i * d + j]) * scale);
    }
  }
}

}  // namespace

extern "C" {

// norms[i] = ‖x_i · scale − origin‖², float64 [n].
char* dec_lloyd_norms(const at::Tensor* rows, double scale, const at::Tensor* origin, at::Tensor* norms) {
  return dec::guarded([&] {
    const Rows from = rows_of(*rows, scale, *origin);
    double* out = norms->data_ptr<double>();
    at::parallel_for(0, rows->size(0), dec::row_grain(from.d), [&](int64_t begin, int64_t end) {
      std::vector<float> x(static_cast<std::size_t>(from.width));
      for (int64_t i = begin; i < end; ++i) {
        load(from, i, x.data());
        double sum = 0;
        for (int64_t j = 0; j < from.d; ++j) {
          sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
        }
        out[i] = sum;
      }
    });
  });
}

// Labels, int32 [restarts, n], of the rows [start, start + length) for the active restarts' centroids [active, k, d].
// drift is float32 [2, active, k], bounds float32 [3, restarts, n]: see Assignment.
char* dec_lloyd_assign(const at::Tensor* rows, double scale, const at::Tensor* origin, const at::Tensor* norms,
                       const at::Tensor* active, const at::Tensor* centroids, const at::Tensor* drift,
                       at::Tensor* bounds, at::Tensor* labels, int64_t start, int64_t length) {
  return dec::guarded([&] {
    const Rows from = rows_of(*rows, scale, *origin);
    const int64_t n_active = centroids->size(0), k = centroids->size(1);
    const std::vector<float> wide = pad(centroids->const_data_ptr<float>(), n_active * k, from.d);
    std::vector<float> half_norms(static_cast<std::size_t>(n_active * k));
    std::vector<float> largest(static_cast<std::size_t>(n_active));
    for (int64_t c = 0; c < n_active * k; ++c) {
      double norm = 0;
      for (int64_t j = 0; j < from.d; ++j) {
        norm += static_cast<double>(wide[c * from.width + j]) * static_cast<double>(wide[c * from.width + j]);
      }
      half_norms[c] = static_cast<float>(norm / 2);
      largest[c / k] = std::max(largest[c / k], static_cast<float>(norm));
    }
    const Assignment to = {from,
                           norms->const_data_ptr<float>(),
                           rows->size(0),
                           k,
                           n_active,
                           wide.data(),
                           half_norms.data(),
                           largest.data(),
                           drift->const_data_ptr<float>(),
                           drift->const_data_ptr<float>() + n_active * k,
                           active->const_data_ptr<int64_t>(),
                           bounds->data_ptr<float>(),
                           bounds->data_ptr<float>() + bounds->stride(0),
                           bounds->data_ptr<float>() + bounds->stride(0) * 2,
                           labels->data_ptr<int32_t>()};
    share((length + kBlock - 1) / kBlock, block_of(from), [&](int64_t b, Block& block) {
      kernels().assign(to, block, start + b * kBlock, start + std::min(length, (b + 1) * kBlock));
    });
  });
}

// Brings the active restarts' sums, float64 [restarts, k, d], and counts, float64 [restarts, k], from the labels in
// `previous` to those in `labels`, for the rows [start, start + length), whose `previous` is then `labels`. Sums are of
// the stored values. Adds to changed, int64 [active], how many labels differ.
char* dec_lloyd_update(const at::Tensor* rows, const at::Tensor* active, const at::Tensor* labels, at::Tensor* previous,
                       at::Tensor* sums, at::Tensor* counts, at::Tensor* changed, int64_t start, int64_t length) {
  return dec::guarded([&] {
    const int64_t n = rows->size(0), d = rows->size(1), k = sums->size(1), n_active = active->size(0);
    const bool bytes = rows->scalar_type() == at::kByte;
    const int64_t* restarts = active->const_data_ptr<int64_t>();
    const auto moves_of = [&](int64_t a) {
      const char* data = static_cast<const char*>(rows->const_data_ptr()) + start * d * (bytes ? 1 : 4);
      return Moves{data,
                   bytes,
                   d,
                   labels->const_data_ptr<int32_t>() + restarts[a] * n + start,
                   previous->data_ptr<int32_t>() + restarts[a] * n + start,
                   sums->data_ptr<double>() + restarts[a] * k * d};
    };
    std::vector<std::vector<int32_t>> lists(static_cast<std::size_t>(n_active));
    share(n_active, 0, [&](int64_t a, int) {
      const Moves moves = moves_of(a);
      double* sizes = counts->data_ptr<double>() + restarts[a] * k;
      for (int64_t i = 0; i < length; ++i) {
        if (moves.labels[i] != moves.previous[i]) {
          TORCH_CHECK(moves.labels[i] >= 0 && moves.labels[i] < k && moves.previous[i] < k, "a label beyond ", k);
          lists[a].push_back(static_cast<int32_t>(i));
          sizes[moves.labels[i]] += 1;
          if (moves.previous[i] >= 0) {
            sizes[moves.previous[i]] -= 1;
          }
        }
      }
      changed->data_ptr<int64_t>()[a] += static_cast<int64_t>(lists[a].size());
    });
    const int64_t parts = (d + kColumns - 1) / kColumns;
    share(n_active * parts, 0, [&](int64_t task, int) {
      const int64_t a = task / parts, first = task % parts * kColumns;
      kernels().move(moves_of(a), lists[a], first, std::min(kColumns, d - first));
    });
    for (int64_t a = 0; a < n_active; ++a) {
      const std::size_t at_start = static_cast<std::size_t>(restarts[a] * n + start);
      for (const int32_t i : lists[a]) {
        previous->data_ptr<int32_t>()[at_start + i] = labels->const_data_ptr<int32_t>()[at_start + i];
      }
    }
  });
}

// Over the rows [start, start + length) and for candidates [restarts, candidates, d]: adds to potentials, float64
// [restarts, candidates], Σ min(closest, ‖x − candidate‖²), or, where `potentials` is null and there is one candidate a
// restart, writes that minimum to closest, float32 [restarts, n]. `start` has to be a multiple of kChunk.
char* dec_lloyd_seed(const at::Tensor* rows, double scale, const at::Tensor* origin, const at::Tensor* norms,
                     const at::Tensor* candidates, at::Tensor* closest, at::Tensor* potentials, int64_t start,
                     int64_t length) {
  return dec::guarded([&] {
    const Rows from = rows_of(*rows, scale, *origin);
    const int64_t n_restarts = candidates->size(0), n_candidates = candidates->size(1);
    const int64_t columns = n_restarts * n_candidates;
    const std::vector<float> wide = pad(candidates->const_data_ptr<float>(), columns, from.d);
    std::vector<float> candidate_norms(static_cast<std::size_t>(columns));
    for (int64_t c = 0; c < columns; ++c) {
      double norm = 0;
      for (int64_t j = 0; j < from.d; ++j) {
        norm += static_cast<double>(wide[c * from.width + j]) * static_cast<double>(wide[c * from.width + j]);
      }
      candidate_norms[c] = static_cast<float>(norm);
    }
    const int64_t chunks = (length + kChunk - 1) / kChunk;
    std::vector<double> sums(potentials == nullptr ? 0 : static_cast<std::size_t>(chunks * columns));
    const Seeding to = {from,        norms->const_data_ptr<float>(), rows->size(0), n_restarts, n_candidates,
                        wide.data(), candidate_norms.data(), closest->data_ptr<float>()};
    share(chunks, block_of(from), [&](int64_t chunk, Block& block) {
      const int64_t last = start + std::min(length, (chunk + 1) * kChunk);
      for (int64_t first = start + chunk * kChunk; first < last; first += kBlock) {
        kernels().seed(to, block, first, std::min(last, first + kBlock),
                       potentials == nullptr ? nullptr : sums.data() + chunk * columns);
      }
    });
    for (int64_t chunk = 0; potentials != nullptr && chunk < chunks; ++chunk) {
      for (int64_t c = 0; c < columns; ++c) {
        potentials->data_ptr<double>()[c] += sums[chunk * columns + c];
      }
    }
  });
}

// picks, int64 [restarts, draws]: the row in which the running sum of closest, float32 [restarts, n], passes the
// fraction draws, float64 [restarts, draws] in [0, 1), of the whole. Where all are 0, every row is as likely.
char* dec_lloyd_sample(const at::Tensor* closest, const at::Tensor* draws, at::Tensor* picks) {
  return dec::guarded([&] {
    const int64_t n = closest->size(1), n_draws = draws->size(1);
    share(closest->size(0), 0, [&](int64_t r, int) {
      const float* weights = closest->const_data_ptr<float>() + r * n;
      const double* fractions = draws->const_data_ptr<double>() + r * n_draws;
      int64_t* out = picks->data_ptr<int64_t>() + r * n_draws;
      double total = 0;
      int64_t last = -1;  // the last row that has a chance
      for (int64_t i = 0; i < n; ++i) {
        total += weights[i];
        last = weights[i] > 0 ? i : last;
      }
      for (int64_t draw = 0; draw < n_draws; ++draw) {
        out[draw] = last < 0 ? std::min(n - 1, static_cast<int64_t>(fractions[draw] * static_cast<double>(n))) : -1;
      }
      double running = 0;
      for (int64_t i = 0; i <= last; ++i) {
        running += weights[i];
        for (int64_t draw = 0; draw < n_draws; ++draw) {
          if (out[draw] < 0 && (running > fractions[draw] * total || i == last)) {
            out[draw] = i;
          }
        }
      }
    });
  });
}

// Adds every row, scaled, to the row of sums, float64 [k, d], that its label, int32 [n], names; in the rows' order.
char* dec_lloyd_column_sums(const at::Tensor* rows, double scale, const at::Tensor* labels, at::Tensor* sums) {
  return dec::guarded([&] {
    const int64_t n = rows->size(0), d = rows->size(1);
    const float factor = static_cast<float>(scale);
    const int32_t* to = labels->const_data_ptr<int32_t>();
    double* out = sums->data_ptr<double>();
    const bool bytes = rows->scalar_type() == at::kByte;
    at::parallel_for(0, d, dec::row_grain(n), [&](int64_t first, int64_t last) {
      bytes ? column_sums(rows->const_data_ptr<uint8_t>(), n, d, factor, to, out, first, last)
            : column_sums(rows->const_data_ptr<float>(), n, d, factor, to, out, first, last);
    });
  });
}

// Every row's nearest centroid, int32 [n], of centroids, float32 [k, d], and its squared distance, float64 [n].
char* dec_lloyd_nearest(const at::Tensor* rows, double scale, const at::Tensor* centroids, at::Tensor* labels,
                        at::Tensor* distances) {
  return dec::guarded([&] {
    const int64_t d = rows->size(1), width = padded(d), k = centroids->size(0);
    const float factor = static_cast<float>(scale);
    const std::vector<float> wide = pad(centroids->const_data_ptr<float>(), k, d);
    int32_t* out = labels->data_ptr<int32_t>();
    double* squares = distances->data_ptr<double>();
    at::parallel_for(0, rows->size(0), dec::row_grain(k * d), [&](int64_t begin, int64_t end) {
      std::vector<float> x(static_cast<std::size_t>(width));
      std::vector<double> terms(static_cast<std::size_t>(d));
      for (int64_t i = begin; i < end; ++i) {
        scaled(*rows, i, factor, x.data());
        const int64_t label = kernels().nearest(x.data(), wide.data(), k, width);
        out[i] = static_cast<int32_t>(label);
        // Squared first and then summed, which no compiler may fuse: the sum is what any other program finds.
        for (int64_t j = 0; j < d; ++j) {
          const double difference = static_cast<double>(x[j]) - static_cast<double>(wide[label * width + j]);
          terms[j] = difference * difference;
        }
        double sum = 0;
        for (int64_t j = 0; j < d; ++j) {
          sum += terms[j];
        }
        squares[i] = sum;
      }
    });
  });
}

}  // extern "C"
