// Nearest neighbours of rows, and the product of a sparse matrix with a block of vectors. On libtorch's threads; every
// result is one thread's work alone, so that the bits do not depend on how many there are.
//
// All tensors here are on the CPU, contiguous, and of the shapes that graph.rs has checked.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <ATen/ATen.h>

#include "guard.h"
#include "parallel.h"
#include "prefetch.h"

using dec::guarded;

namespace {

// Candidates whose distances are computed at once: with some features of each they stay in the cache for many queries.
constexpr int64_t kTile = 512;
// Candidates that are looked at one by one if any of them is near enough.
constexpr int64_t kGroup = 32;
// Queries that go over a tile together.
constexpr int64_t kQueries = 64;
// Entries of a sparse matrix whose row of the block is fetched before it is needed: these lie anywhere.
constexpr int64_t kAhead = 3;

// Squared distances of one query [m] to `count` candidates, whose features lie `stride` apart. With AVX2 the
// sums of a group stay in registers.
DEC_VECTORISED void squared_distances(const float* __restrict query, const float* __restrict candidates, int64_t stride,
                                      int64_t m, int64_t count, float* __restrict distances) {
  typedef float Lanes __attribute__((vector_size(8 * sizeof(float)), aligned(sizeof(float)), may_alias));
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

DEC_VECTORISED int32_t below(const float* __restrict distances, float worst) {
  int32_t count = 0;
  for (int64_t j = 0; j < kGroup; ++j) {
    count += distances[j] < worst ? 1 : 0;
  }
  return count;
}

DEC_VECTORISED void add_scaled(const float* __restrict x, float weight, int64_t width, float* __restrict sums) {
  for (int64_t c = 0; c < width; ++c) {
    sums[c] += weight * x[c];
  }
}

}  // namespace

extern "C" {

// The k candidates nearest to each query of `queries` [q, m], nearest first, the lower number first among equals; candidates
// [m, n] are transposed. Where `first` is not negative, query i is candidate first + i and is left out.
char* dec_graph_neighbours(const at::Tensor* queries, const at::Tensor* candidates, int64_t first, const at::Tensor* indices,
                           const at::Tensor* distances) {
  return guarded([&] {
    const int64_t q = queries->size(0), m = queries->size(1), n = candidates->size(1), k = indices->size(1);
    const float* rows = queries->const_data_ptr<float>();
    const float* columns = candidates->const_data_ptr<float>();
    int64_t* index = indices->mutable_data_ptr<int64_t>();
    float* distance = distances->mutable_data_ptr<float>();
    at::parallel_for(0, (q + kQueries - 1) / kQueries, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> tile(static_cast<std::size_t>(kTile));
      for (int64_t block = begin; block < end; ++block) {
        const int64_t from = block * kQueries, to = std::min(q, from + kQueries);
        std::fill(distance + from * k, distance + to * k, std::numeric_limits<float>::infinity());
        std::fill(index + from * k, index + to * k, -1);
        for (int64_t start = 0; start < n; start += kTile) {
          const int64_t count = std::min(kTile, n - start);
          std::fill(tile.begin(), tile.end(), std::numeric_limits<float>::infinity());
          for (int64_t i = from; i < to; ++i) {
            squared_distances(rows + i * m, columns + start, n, m, count, tile.data());
            float* best = distance + i * k;
            int64_t* who = index + i * k;
            const int64_t self = first < 0 ? -1 : first + i;
            for (int64_t group = 0; group < count; group += kGroup) {
              if (below(tile.data() + group, best[k - 1]) == 0) {
                continue;
              }
              for (int64_t j = group; j < std::min(count, group + kGroup); ++j) {
                const float d = tile[static_cast<std::size_t>(j)];
                if (!(d < best[k - 1]) || start + j == self) {
                  continue;
                }
                int64_t place = k - 1;
                for (; place > 0 && d < best[place - 1]; --place) {
                  best[place] = best[place - 1];
                  who[place] = who[place - 1];
                }
                best[place] = d;
                who[place] = start + j;
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
        std::fill(sums.begin(), sums.end(), 0.0F);
        for (int64_t e = start[i]; e < start[i + 1]; ++e) {
          if (e + kAhead < entries) {
            dec::prefetch(from + column[e + kAhead] * width, width * static_cast<int64_t>(sizeof(float)));
          }
          add_scaled(from + column[e] * width, weight[e], width, sums.data());
        }
        const float* own = from + i * width;
        float* row = to + i * width;
        for (int64_t c = 0; c < width; ++c) {
          const float kept = keep == 0.0F ? 0.0F : keep * row[c];
          row[c] = alpha * sums[static_cast<std::size_t>(c)] + (shift * own[c] + kept);
        }
      }
    });
  });
}

}  // extern "C"
