// Rows in the type that they are stored in, as scaled float32.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "parallel.h"

namespace dec {

// Values of a row of a tensor that has at least one dimension.
static inline int64_t row_width(const at::Tensor& rows) { return rows.numel() / std::max<int64_t>(1, rows.size(0)); }

// Clones and templates do not go together: one plain function a type. Static: a clone's resolver belongs to one file.
DEC_VECTORISED static void widen_bytes(const uint8_t* __restrict from, float* __restrict to, int64_t width, float scale) {
  for (int64_t j = 0; j < width; ++j) {
    to[j] = static_cast<float>(from[j]) * scale;
  }
}

DEC_VECTORISED static void scale_floats(const float* __restrict from, float* __restrict to, int64_t width, float scale) {
  for (int64_t j = 0; j < width; ++j) {
    to[j] = from[j] * scale;
  }
}

// `width` values of `stored`, bytes or floats, from `at` on.
static inline void scaled_values(const void* stored, bool bytes, int64_t at, float* to, int64_t width, float scale) {
  if (bytes) {
    widen_bytes(static_cast<const uint8_t*>(stored) + at, to, width, scale);
  } else {
    scale_floats(static_cast<const float*>(stored) + at, to, width, scale);
  }
}

// Whether all of `count` indices are those of one of `n` rows.
static inline bool all_inside(const int64_t* index, int64_t count, int64_t n) {
  return std::all_of(index, index + count, [n](int64_t i) { return i >= 0 && i < n; });
}

}  // namespace dec
