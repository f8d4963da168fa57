// Nearest neighbours of rows, and the product of a sparse matrix with a block of vectors. On libtorch's threads; every
// result is one thread's work alone, so that the bits do not depend on how many there are.
//
// All tensors here are on the CPU, contiguous, and of the shapes that graph.rs has checked.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include <ATen/ATen.h>

#include "guard.h"
#include "parallel.h"
#include "prefetch.h"

using dec::guarded;

namespace {

// Candidates whose distances are computed at once: with some features of each they stay in the cache for many queries.
constexpr int64_t kTile = 512;
// Candidates that are looked at one by one if any of them is near enough; a cell holds a multiple of so many.
constexpr int64_t kGroup = 32;
static_assert(kTile % kGroup == 0, "a tile is whole groups");
// Queries that go over a tile together.
constexpr int64_t kQueries = 64;
// Entries of a sparse matrix whose row of the block is fetched before it is needed: these lie anywhere.
constexpr int64_t kAhead = 3;
// Values of a row of the block whose sums stay in registers.
constexpr int64_t kPanel = 64;
// A squared distance below which squares may have underflowed: what is computed from it says nothing.
constexpr double kLeast = 1e-20;

typedef float Lanes __attribute__((vector_size(8 * sizeof(float)), aligned(sizeof(float)), may_alias));

// Squared distances of one query [m] to `count` candidates, whose features lie `stride` apart. With AVX2 the
// sums of a group stay in registers.
DEC_VECTORISED void squared_distances(const float* __restrict query, const float* __restrict candidates, int64_t stride,
                                      int64_t m, int64_t count, float* __restrict distances) {
  int64_t j = 0;
  for (; j + kGroup <= count; j += kGroup) {
    Lanes sums[kGroup / 8] = {};
    for (int64_t c = 0; c < m; ++c) {
      const float value = query[c];
      const float* line = candidates + c * stride + j;
#pragma GCC unroll 8
      for (int64_t part = 0; part < kGroup / 8; ++part) {
        const Lanes difference = *reinterpret_cast<const Lanes*>(line + part * 8) - value;
        sums[part] += difference * difference;
      }
    }
    std::memcpy(distances + j, sums, sizeof(sums));
  }
  for (; j < count; ++j) {
    float sum = 0.0F;
    for (int64_t c = 0; c < m; ++c) {
      const float difference = candidates[c * stride + j] - query[c];
      sum += difference * difference;
    }
    distances[j] = sum;
  }
}

DEC_VECTORISED int32_t as_near(const float* __restrict distances, float worst) {
  int32_t count = 0;
  for (int64_t j = 0; j < kGroup; ++j) {
    count += distances[j] <= worst ? 1 : 0;
  }
  return count;
}

// Candidates in cells: each lies in the cell of the pivot nearest to it; one at no finite distance from any in some cell whose
// radius is infinite.
struct Cells {
  int64_t count;        // of pivots
  int64_t m;            // features
  int64_t n;            // columns, those that only fill up a cell included
  const float* pivots;  // [m, count]
  const float* radii;   // [count]: how far a cell's candidates are from its pivot
  const int64_t* starts;   // [count + 1]: the columns of each cell
  const float* columns;    // [m, n]
  const int64_t* numbers;  // [n]: the candidate in each column
};

// What is known of how far a query is from the cells.
class Reach {
 public:
  explicit Reach(const Cells& cells)
      : cells_(cells), slack_(1.2e-7 * static_cast<double>(cells.m + 8)), to_pivot_(size()), from_nearest_(size()) {}

  void aim(const float* query) {
    squared_distances(query, cells_.pivots, cells_.count, cells_.m, cells_.count, to_pivot_.data());
    for (float& far : to_pivot_) {
      far = std::isnan(far) ? std::numeric_limits<float>::infinity() : far;
    }
    const auto nearest = std::min_element(to_pivot_.begin(), to_pivot_.end()) - to_pivot_.begin();
    if (nearest != nearest_) {
      nearest_ = nearest;
      std::vector<float> pivot(static_cast<std::size_t>(cells_.m));
      for (int64_t c = 0; c < cells_.m; ++c) {
        pivot[static_cast<std::size_t>(c)] = cells_.pivots[c * cells_.count + nearest];
      }
      squared_distances(pivot.data(), cells_.pivots, cells_.count, cells_.m, cells_.count, from_nearest_.data());
    }
  }

  // Squared distances from the query to the pivots; infinite where they overflow or are not numbers.
  const std::vector<float>& to_pivot() const { return to_pivot_; }

  // The computed squared distance to a candidate of the cell is no less than this; 0 where nothing is known. A candidate is
  // within the cell's radius of its pivot, and on that pivot's side of the plane halfway to the query's nearest one. `slack_`
  // is twice what rounding can do to a computed squared distance, as a share of it (for m below 100,000; above, squares do not
  // all err in the same direction).
  double at_least(int64_t cell) const {
    const auto at = static_cast<std::size_t>(cell);
    const double far = to_pivot_[at], near = to_pivot_[static_cast<std::size_t>(nearest_)], radius = cells_.radii[cell];
    if (far < kLeast || far > std::numeric_limits<float>::max()) {
      return 0;
    }
    const double beyond_ball = std::sqrt(far) * (1 - slack_) - radius * (1 + slack_);
    const double rounding = 2 * slack_ * (far + radius * radius);
    const double beyond_plane = (far - near - rounding) / (2 * std::sqrt(static_cast<double>(from_nearest_[at])) * (1 + slack_));
    // In this order: what is not a number loses against what stands before it.
    const double distance = std::max({0.0, beyond_ball, cell == nearest_ ? 0.0 : beyond_plane});
    const double squared = distance * distance * (1 - 2 * slack_);
    return squared < kLeast ? 0 : squared;
  }

 private:
  std::size_t size() const { return static_cast<std::size_t>(cells_.count); }

  const Cells& cells_;
  double slack_;
  std::int64_t nearest_ = -1;
  std::vector<float> to_pivot_;
  std::vector<float> from_nearest_;
};

// The k nearest so far, nearest first, the lower number first among equals.
struct Nearest {
  int64_t k;
  float* distances;
  int64_t* numbers;

  void take(float distance, int64_t number) const {
    if (!before(distance, number, k - 1)) {
      return;
    }
    int64_t place = k - 1;
    for (; place > 0 && before(distance, number, place - 1); --place) {
      distances[place] = distances[place - 1];
      numbers[place] = numbers[place - 1];
    }
    distances[place] = distance;
    numbers[place] = number;
  }

  bool before(float distance, int64_t number, int64_t place) const {
    return distance < distances[place] || (distance == distances[place] && number < numbers[place]);
  }
};

// The sums over entries of weight times a row of x, for `kPanel` values of each row.
DEC_VECTORISED void weighted_panel(const float* __restrict x, int64_t width, const int32_t* __restrict column,
                                   const float* __restrict weight, int64_t from, int64_t to, int64_t entries,
                                   float* __restrict sums) {
  Lanes sum[kPanel / 8] = {};
  for (int64_t e = from; e < to; ++e) {
    if (e + kAhead < entries) {
      dec::prefetch(x + column[e + kAhead] * width, kPanel * static_cast<int64_t>(sizeof(float)));
    }
    const float* row = x + column[e] * width;
#pragma GCC unroll 8
    for (int64_t part = 0; part < kPanel / 8; ++part) {
      sum[part] += weight[e] * *reinterpret_cast<const Lanes*>(row + part * 8);
    }
  }
  std::memcpy(sums, sum, sizeof(sum));
}

// The same for `count` values of each row.
DEC_VECTORISED void weighted(const float* __restrict x, int64_t width, const int32_t* __restrict column,
                             const float* __restrict weight, int64_t from, int64_t to, int64_t entries, int64_t count,
                             float* __restrict sums) {
  std::fill(sums, sums + count, 0.0F);
  for (int64_t e = from; e < to; ++e) {
    if (e + kAhead < entries) {
      dec::prefetch(x + column[e + kAhead] * width, count * static_cast<int64_t>(sizeof(float)));
    }
    const float* row = x + column[e] * width;
    for (int64_t c = 0; c < count; ++c) {
      sums[c] += weight[e] * row[c];
    }
  }
}

}  // namespace

extern "C" {

// The k candidates nearest to each of `queries` [q, m], nearest first, the lower number first among equals; the candidate that
// `own` [q] names is left out (-1: none). Cells: see above.
char* dec_graph_neighbours(const at::Tensor* queries, const at::Tensor* own, const at::Tensor* pivots, const at::Tensor* radii,
                           const at::Tensor* starts, const at::Tensor* columns, const at::Tensor* numbers,
                           const at::Tensor* indices, const at::Tensor* distances) {
  return guarded([&] {
    const int64_t q = queries->size(0), k = indices->size(1);
    const Cells cells{pivots->size(1),
                      pivots->size(0),
                      columns->size(1),
                      pivots->const_data_ptr<float>(),
                      radii->const_data_ptr<float>(),
                      starts->const_data_ptr<int64_t>(),
                      columns->const_data_ptr<float>(),
                      numbers->const_data_ptr<int64_t>()};
    for (int64_t cell = 0; cell < cells.count; ++cell) {
      TORCH_CHECK((cells.starts[cell + 1] - cells.starts[cell]) % kGroup == 0, "a cell of neighbours that is no whole groups");
    }
    const float* rows = queries->const_data_ptr<float>();
    const int64_t* self = own->const_data_ptr<int64_t>();
    int64_t* index = indices->mutable_data_ptr<int64_t>();
    float* distance = distances->mutable_data_ptr<float>();
    at::parallel_for(0, (q + kQueries - 1) / kQueries, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> tile(static_cast<std::size_t>(kTile));
      std::vector<double> bounds(static_cast<std::size_t>(kQueries * cells.count));
      std::vector<int64_t> order(static_cast<std::size_t>(cells.count));
      Reach reach(cells);
      for (int64_t block = begin; block < end; ++block) {
        const int64_t from = block * kQueries, to = std::min(q, from + kQueries);
        std::fill(distance + from * k, distance + to * k, std::numeric_limits<float>::infinity());
        std::fill(index + from * k, index + to * k, -1);
        for (int64_t i = from; i < to; ++i) {
          reach.aim(rows + i * cells.m);
          for (int64_t cell = 0; cell < cells.count; ++cell) {
            bounds[static_cast<std::size_t>((i - from) * cells.count + cell)] = reach.at_least(cell);
          }
        }
        // Queries of a block lie near each other, so that what is near the last is near the others.
        std::iota(order.begin(), order.end(), 0);
        const std::vector<float>& far = reach.to_pivot();
        std::stable_sort(order.begin(), order.end(), [&far](int64_t a, int64_t b) {
          return far[static_cast<std::size_t>(a)] < far[static_cast<std::size_t>(b)];
        });
        for (const int64_t cell : order) {
          for (int64_t start = cells.starts[cell]; start < cells.starts[cell + 1]; start += kTile) {
            const int64_t count = std::min(kTile, cells.starts[cell + 1] - start);
            for (int64_t i = from; i < to; ++i) {
              const Nearest nearest{k, distance + i * k, index + i * k};
              if (bounds[static_cast<std::size_t>((i - from) * cells.count + cell)] > nearest.distances[k - 1]) {
                continue;
              }
              squared_distances(rows + i * cells.m, cells.columns + start, cells.n, cells.m, count, tile.data());
              for (int64_t group = 0; group < count; group += kGroup) {
                if (as_near(tile.data() + group, nearest.distances[k - 1]) == 0) {
                  continue;
                }
                for (int64_t j = group; j < group + kGroup; ++j) {
                  const int64_t number = cells.numbers[start + j];
                  if (number != self[i]) {
                    nearest.take(tile[static_cast<std::size_t>(j)], number);
                  }
                }
              }
            }
          }
        }
      }
    });
  });
}

// y = alpha * (A x) + shift * x + keep * y for A [n, n] in compressed rows, x and y [n, width]; what y held is not read where
// `keep` is 0.
char* dec_graph_multiply(const at::Tensor* starts, const at::Tensor* columns, const at::Tensor* weights, const at::Tensor* x,
                         const at::Tensor* y, float alpha, float shift, float keep) {
  return guarded([&] {
    const int64_t n = x->size(0), width = x->size(1);
    const int64_t* start = starts->const_data_ptr<int64_t>();
    const int64_t entries = columns->size(0);
    const int32_t* column = columns->const_data_ptr<int32_t>();
    const float* weight = weights->const_data_ptr<float>();
    const float* from = x->const_data_ptr<float>();
    float* to = y->mutable_data_ptr<float>();
    at::parallel_for(0, n, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, width)), [&](int64_t begin, int64_t end) {
      std::vector<float> sums(static_cast<std::size_t>(width));
      for (int64_t i = begin; i < end; ++i) {
        int64_t c = 0;
        for (; c + kPanel <= width; c += kPanel) {
          weighted_panel(from + c, width, column, weight, start[i], start[i + 1], entries, sums.data() + c);
        }
        if (c < width) {
          weighted(from + c, width, column, weight, start[i], start[i + 1], entries, width - c, sums.data() + c);
        }
        const float* own = from + i * width;
        float* row = to + i * width;
        for (c = 0; c < width; ++c) {
          const float kept = keep == 0.0F ? 0.0F : keep * row[c];
          row[c] = alpha * sums[static_cast<std::size_t>(c)] + (shift * own[c] + kept);
        }
      }
    });
  });
}

}  // extern "C"
