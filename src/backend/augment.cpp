// Rows as a training step sees them, changed at random: a batched affine warp with bilinear interpolation, patches
// of other rows, and noise.
//
// All tensors here are on the CPU, contiguous, and of the shapes that augment.rs has checked. What is drawn is a hash of the
// row's place in the batch (for noise: of the value's place) under the step's key, so that the bits do not depend on the
// number of threads.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "guard.h"
#include "hash.h"
#include "parallel.h"
#include "rows.h"

using dec::guarded;

namespace {

// See augment.rs.
struct WarpRule {
  int64_t height;
  int64_t width;
  int64_t patch_height;
  int64_t patch_width;
  float rotation;
  float zoom;
  float shear;
  float shift_y;
  float shift_x;
  float elastic_y;
  float elastic_x;
  bool edge;
  int64_t channels;
  bool channels_first;
};

// Where the values of channel `c` of an image lie: that of pixel i at `begin` + i * `step`.
struct Plane {
  int64_t begin;
  int64_t step;
};

Plane plane_of(const WarpRule& rule, int64_t c) {
  return rule.channels_first ? Plane{c * rule.height * rule.width, 1} : Plane{c, rule.channels};
}

// Tells the draws of the elastic field from the others of a step; as in augment.rs.
constexpr uint32_t kBends = 0x5851f42dU;

// Tells the draws of the patches from the others of a step; as in augment.rs.
constexpr uint32_t kPatches = 0x2545f491U;

// Uniform in [-1, 1).
float symmetric(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-23F - 1.0F; }

// Uniform in [-1, 1): draw `number` of the row at `place`.
float draw(const dec::Keys& keys, uint32_t place, uint32_t number) { return symmetric(dec::hashed(keys, place * 8U + number)); }

// Where the value of an output pixel is taken from: y = yy * r + yx * c + y0, x = xy * r + xx * c + x0.
struct Map {
  float yy, yx, y0;
  float xy, xx, x0;
};

Map map_of(const WarpRule& rule, const dec::Keys& keys, uint32_t place) {
  const float angle = rule.rotation * draw(keys, place, 0);
  const float zoom = 1.0F + rule.zoom * draw(keys, place, 1);
  const float shear = rule.shear * draw(keys, place, 2);
  const float dy = rule.shift_y * draw(keys, place, 3);
  const float dx = rule.shift_x * draw(keys, place, 4);
  const float sine = std::sin(angle) / zoom, cosine = std::cos(angle) / zoom;
  Map map{cosine, sine, 0.0F, -sine + shear * cosine, cosine + shear * sine, 0.0F};
  // About the middle of the image.
  const float cy = static_cast<float>(rule.height - 1) / 2.0F, cx = static_cast<float>(rule.width - 1) / 2.0F;
  map.y0 = cy + dy - map.yy * cy - map.yx * cx;
  map.x0 = cx + dx - map.xy * cy - map.xx * cx;
  return map;
}

// What is taken from another row of the batch, at the same place: lines top to bottom, columns left to right.
struct Patch {
  int64_t other;
  int64_t top, bottom;
  int64_t left, right;
};

// A number from 0 to below `count`.
int64_t below(uint32_t bits, int64_t count) {
  return static_cast<int64_t>((static_cast<uint64_t>(bits) * static_cast<uint64_t>(count)) >> 32);
}

// Its sides are drawn from 0 to the most, its middle from the whole image; what lies outside is cut off.
Patch patch_of(const WarpRule& rule, const dec::Keys& keys, int64_t place, int64_t rows) {
  const auto drawn = [&](uint32_t number, int64_t count) {
    return below(dec::hashed(keys, static_cast<uint32_t>(place) * 8U + number), count);
  };
  Patch patch{};
  patch.other = (place + 1 + drawn(0, rows - 1)) % rows;
  const int64_t height = drawn(1, rule.patch_height + 1), width = drawn(2, rule.patch_width + 1);
  const int64_t top = drawn(3, rule.height) - height / 2, left = drawn(4, rule.width) - width / 2;
  patch.top = std::max<int64_t>(top, 0);
  patch.left = std::max<int64_t>(left, 0);
  patch.bottom = std::min(top + height, rule.height);
  patch.right = std::min(left + width, rule.width);
  return patch;
}

// A field of displacements: cubic B-splines over this many cells a side, so that many control points.
constexpr int64_t kCells = 4, kPoints = kCells + 3;

// The weights of the control points at each of `side` pixels, [kPoints, side].
std::vector<float> splines(int64_t side) {
  std::vector<float> basis(static_cast<std::size_t>(kPoints * side), 0.0F);
  for (int64_t i = 0; i < side; ++i) {
    const float t = side > 1 ? static_cast<float>(i * kCells) / static_cast<float>(side - 1) : 0.0F;
    const int64_t cell = std::min(static_cast<int64_t>(t), kCells - 1);
    const float u = t - static_cast<float>(cell), v = 1.0F - u;
    const float weights[4] = {v * v * v / 6.0F, (3.0F * u * u * u - 6.0F * u * u + 4.0F) / 6.0F,
                              (3.0F * v * v * v - 6.0F * v * v + 4.0F) / 6.0F, u * u * u / 6.0F};
    for (int64_t k = 0; k < 4; ++k) {
      basis[(cell + k) * side + i] = weights[k];
    }
  }
  return basis;
}

// What `points` [kPoints, kPoints] come to along the line at `row` of the image: field [width].
DEC_VECTORISED void bend_line(const float* points, const float* down, int64_t height, int64_t row,
                              const float* __restrict across, int64_t width, float* __restrict field) {
  for (int64_t c = 0; c < width; ++c) {
    field[c] = 0.0F;
  }
  for (int64_t h = 0; h < kPoints; ++h) {
    float along = 0.0F;
    for (int64_t g = 0; g < kPoints; ++g) {
      along += down[g * height + row] * points[g * kPoints + h];
    }
    for (int64_t c = 0; c < width; ++c) {
      field[c] += along * across[h * width + c];
    }
  }
}

// One line of the output from an image with a border of two pixels around it; `stride` is the bordered width, and `bend_y` and
// `bend_x` are added to the places.
DEC_VECTORISED void warp_line(const float* __restrict bordered, float* __restrict to, int32_t stride, int64_t width, float y,
                              float x, float dy, float dx, const float* __restrict bend_y, const float* __restrict bend_x,
                              float low, float high_y, float high_x) {
  for (int64_t c = 0; c < width; ++c) {
    const auto at = static_cast<float>(c);
    float sy = y + dy * at + bend_y[c], sx = x + dx * at + bend_x[c];
    sy = std::min(std::max(low, sy), high_y) + 2.0F;  // in this order a NaN comes to low
    sx = std::min(std::max(low, sx), high_x) + 2.0F;
    const auto row = static_cast<int32_t>(sy), column = static_cast<int32_t>(sx);  // not negative: cut is floor
    const float fy = sy - static_cast<float>(row), fx = sx - static_cast<float>(column);
    const int32_t place = row * stride + column;
    const float top = bordered[place] * (1.0F - fx) + bordered[place + 1] * fx;
    const float bottom = bordered[place + stride] * (1.0F - fx) + bordered[place + stride + 1] * fx;
    to[c] = top * (1.0F - fy) + bottom * fy;
  }
}

// The sum of four uniform numbers of 16 bits, of mean 0 and variance 1: near a Gaussian, and without a logarithm.
DEC_VECTORISED void add_noise(float* __restrict x, int64_t count, uint32_t place, const dec::Keys* given, float deviation) {
  const dec::Keys keys = *given;
  const float factor = deviation * 1.7320508F / 65536.0F;  // a uniform number's variance is 1/12, and there are four
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t where = 2U * (place + static_cast<uint32_t>(i));
    const uint32_t one = dec::hashed(keys, where), two = dec::hashed(keys, where + 1U);
    const uint32_t sum = (one & 0xffffU) + (one >> 16) + (two & 0xffffU) + (two >> 16);
    x[i] += (static_cast<float>(static_cast<int32_t>(sum)) - 131070.0F) * factor;
  }
}

}  // namespace

extern "C" {

// out[i] = the image scale * stored[indices[i]], warped, bent and patched; false in `inside` if an index is outside the rows.
char* dec_augment_warp(const at::Tensor* stored, const at::Tensor* indices, float scale, const at::Tensor* key,
                       const WarpRule* rule, const at::Tensor* out, bool* inside) {
  return guarded([&] {
    const int64_t n = stored->size(0), rows = indices->numel(), height = rule->height, width = rule->width;
    const int64_t channels = rule->channels, size = height * width * channels;
    const int64_t* index = indices->const_data_ptr<int64_t>();
    *inside = dec::all_inside(index, rows, n);
    if (!*inside) {
      return;
    }
    const int64_t* drawn = key->const_data_ptr<int64_t>();
    const dec::Keys keys = dec::keys_of(drawn[0], 0);
    const dec::Keys bends = dec::keys_of(drawn[0], kBends);
    const dec::Keys patches = dec::keys_of(drawn[0], kPatches);
    const auto first = static_cast<uint32_t>(drawn[1]);  // the row of the whole batch that the first row here is
    const bool patched = rule->patch_height > 0 && rule->patch_width > 0 && rows > 1;
    const bool elastic = rule->elastic_y != 0.0F || rule->elastic_x != 0.0F;
    const std::vector<float> down = splines(elastic ? height : 0), across = splines(elastic ? width : 0);
    const bool bytes = stored->scalar_type() == at::kByte;
    const void* from = stored->const_data_ptr();
    float* to = out->mutable_data_ptr<float>();
    const int64_t stride = width + 4;
    // Outside an image there is nothing: its border is 0, and what lies beyond is taken from the border. A row whose edge goes
    // on is never read beyond it.
    const float low = rule->edge ? 0.0F : -1.0F;
    const float high_y = static_cast<float>(rule->edge ? height - 1 : height);
    const float high_x = static_cast<float>(rule->edge ? width - 1 : width);
    at::parallel_for(0, rows, dec::row_grain(size * 8), [&](int64_t begin, int64_t end) {
      std::vector<float> bordered(static_cast<std::size_t>(channels * (height + 4) * stride));
      std::vector<float> bend_y(static_cast<std::size_t>(width), 0.0F), bend_x(bend_y);
      std::vector<float> apart(static_cast<std::size_t>(channels > 1 ? width * channels : 0));
      float points_y[kPoints * kPoints], points_x[kPoints * kPoints];
      for (int64_t i = begin; i < end; ++i) {
        const uint32_t row = first + static_cast<uint32_t>(i);
        const Map map = map_of(*rule, keys, row);
        for (int64_t k = 0; elastic && k < kPoints * kPoints; ++k) {
          const uint32_t place = (row * kPoints * kPoints + static_cast<uint32_t>(k)) * 2U;
          points_y[k] = rule->elastic_y * symmetric(dec::hashed(bends, place));
          points_x[k] = rule->elastic_x * symmetric(dec::hashed(bends, place + 1U));
        }
        for (int64_t c = 0; c < channels; ++c) {
          const Plane plane = plane_of(*rule, c);
          for (int64_t r = 0; r < height; ++r) {
            float* line = bordered.data() + (c * (height + 4) + r + 2) * stride + 2;
            const int64_t first = index[i] * size + plane.begin + r * width * plane.step;
            if (plane.step == 1) {
              dec::scaled_values(from, bytes, first, line, width, scale);
              continue;
            }
            // A line of all channels, of which every so-manyth value is this one's.
            dec::scaled_values(from, bytes, first - c, apart.data(), width * channels, scale);
            for (int64_t x = 0; x < width; ++x) {
              line[x] = apart[x * channels + c];
            }
          }
        }
        for (int64_t r = 0; r < height; ++r) {
          const auto at = static_cast<float>(r);
          if (elastic) {
            bend_line(points_y, down.data(), height, r, across.data(), width, bend_y.data());
            bend_line(points_x, down.data(), height, r, across.data(), width, bend_x.data());
          }
          for (int64_t c = 0; c < channels; ++c) {
            const Plane plane = plane_of(*rule, c);
            float* line = to + i * size + plane.begin + r * width * plane.step;
            float* written = plane.step == 1 ? line : apart.data();
            warp_line(bordered.data() + c * (height + 4) * stride, written, static_cast<int32_t>(stride), width,
                      map.yy * at + map.y0, map.xy * at + map.x0, map.yx, map.xx, bend_y.data(), bend_x.data(), low,
                      high_y, high_x);
            for (int64_t x = 0; plane.step != 1 && x < width; ++x) {
              line[x * plane.step] = apart[x];
            }
          }
        }
      }
    });
    if (!patched) {
      return;
    }
    // As they were before any of them was patched; a patch that is not warped itself would be known by how sharp it is.
    const std::vector<float> before(to, to + rows * size);
    at::parallel_for(0, rows, dec::row_grain(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Patch patch = patch_of(*rule, patches, i, rows);
        // Of all channels at once where a pixel's lie together, else of one after the other.
        const int64_t planes = rule->channels_first ? channels : 1, step = rule->channels_first ? 1 : channels;
        for (int64_t r = 0; r < planes * height; ++r) {
          if (r % height < patch.top || r % height >= patch.bottom) {
            continue;
          }
          const float* line = before.data() + patch.other * size + r * width * step;
          std::copy(line + patch.left * step, line + patch.right * step, to + i * size + r * width * step + patch.left * step);
        }
      }
    });
  });
}

// x += noise of this standard deviation, in place.
char* dec_augment_noise(const at::Tensor* x, float deviation, const at::Tensor* key, uint32_t site) {
  return guarded([&] {
    const int64_t* drawn = key->const_data_ptr<int64_t>();
    const dec::Keys keys = dec::keys_of(drawn[0], site);
    const uint32_t before = static_cast<uint32_t>(drawn[1]) * static_cast<uint32_t>(dec::row_width(*x));
    float* values = x->mutable_data_ptr<float>();
    at::parallel_for(0, x->numel(), dec::kGrain, [&](int64_t begin, int64_t end) {
      add_noise(values + begin, end - begin, before + static_cast<uint32_t>(begin), &keys, deviation);
    });
  });
}

}  // extern "C"
