// The inner loops of the step engine: one pass over memory each, on libtorch's threads, bits independent of how many.
//
// All tensors are on the CPU, contiguous, and of the shapes that dense.rs has checked (dec_dense_product takes any
// device and transposed operands). Sums run over parts that are fixed by the shape alone.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "adam.h"
#include "bf16.h"
#include "guard.h"
#include "hash.h"
#include "parallel.h"
#include "rows.h"
#include "sparse.h"

namespace at::native {
// In libtorch_cpu, but in none of its headers: result = beta * result + alpha * mat1 * mat2, by oneDNN.
TORCH_API void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);
}  // namespace at::native

using dec::AdamRule;
using dec::guarded;

namespace {

// Rounds what a pass has written, while it is in the cache, to where rounded_pass or rounded_weight wants it.
class Rounding {
 public:
  Rounding(const at::Tensor& written, uint16_t* to) : values_(written.const_data_ptr<float>()), to_(to) {}

  bool wanted() const { return to_ != nullptr; }

  void round(int64_t start, int64_t count) const {
    if (wanted()) {
      dec::round_to_bf16(values_ + start, to_ + start, count);
    }
  }

 private:
  const float* values_;
  uint16_t* to_;
};

// Calls `part` for the values from `begin` to `end`, piece by piece where they are to be rounded.
template <typename Part>
void in_pieces(int64_t begin, int64_t end, const Rounding& rounding, Part part) {
  constexpr int64_t kPiece = 4096;
  const int64_t piece = rounding.wanted() ? kPiece : std::max<int64_t>(1, end - begin);
  for (int64_t start = begin; start < end; start += piece) {
    const int64_t count = std::min(piece, end - start);
    part(start, count);
    rounding.round(start, count);
  }
}

// Calls `part` for all values of `weight`, which it changes.
template <typename Part>
void move(const at::Tensor& weight, Part part) {
  weight.unsafeGetTensorImpl()->bump_version();  // whoever looks will see that it has changed
  const Rounding rounding(weight, dec::rounded_weight(weight));
  at::parallel_for(0, weight.numel(), dec::kGrain, [&](int64_t begin, int64_t end) { in_pieces(begin, end, rounding, part); });
}

// Rows that one task sums: enough tasks for the threads, and few sums beside the rows.
constexpr int64_t kRows = 32;
// Columns of them that it goes through at a time.
constexpr int64_t kColumns = 256;

// Dropout without its key; see dense.rs.
struct Rule {
  uint32_t site;
  uint32_t threshold;  // a hash below it drops the value; 0 keeps all
  float scale;         // of what is kept
};

// Which values dropout keeps: a hash of the value's place.
struct Mask {
  dec::Keys keys;
  uint32_t threshold;
  float scale;
  uint32_t first;  // the row of the whole batch that the first row here is
};

Mask mask_of(const at::Tensor* key, const Rule* rule) {
  const int64_t* drawn = key->const_data_ptr<int64_t>();
  return {dec::keys_of(drawn[0], rule->site), rule->threshold, rule->scale, static_cast<uint32_t>(drawn[1])};
}

DEC_INLINE float kept(const Mask& mask, uint32_t place) {
  return dec::hashed(mask.keys, place) < mask.threshold ? 0.0F : mask.scale;
}

// Whether oneDNN multiplies faster than MKL does: on AMD's processors with AVX-512, where MKL keeps to AVX2 (measured: by a
// quarter). oneDNN's entry asks for AVX-512 and refuses elsewhere, also when its environment variables say so.
bool onednn_is_faster() {
  static const bool answer = [] {
#if defined(__x86_64__)
    if (!__builtin_cpu_is("amd") || !__builtin_cpu_supports("avx512bw")) {
      return false;
    }
    try {
      at::Tensor one = at::ones({1, 1});
      at::native::mkldnn_matmul(one, one, at::zeros({1, 1}), 0.0F, 1.0F);
      return true;
    } catch (const std::exception&) {
      return false;
    }
#else
    return false;
#endif
  }();
  return answer;
}

DEC_VECTORISED void drop(const float* from, float* to, uint32_t place, int64_t count, const Mask* mask) {
  const Mask m = *mask;
  for (int64_t i = 0; i < count; ++i) {
    to[i] = from[i] * kept(m, place + static_cast<uint32_t>(i));
  }
}

DEC_VECTORISED void add_bias(float* __restrict y, const float* __restrict bias, int64_t width) {
  for (int64_t j = 0; j < width; ++j) {
    y[j] += bias[j];
  }
}

// NaN passes through, as in PyTorch's relu: weights that diverged must show.
DEC_VECTORISED void add_bias_relu(float* __restrict y, const float* __restrict bias, int64_t width) {
  for (int64_t j = 0; j < width; ++j) {
    const float value = y[j] + bias[j];
    y[j] = value < 0.0F ? 0.0F : value;
  }
}

DEC_VECTORISED void add_bias_relu_drop(float* __restrict y, const float* __restrict bias, int64_t width, uint32_t place,
                                       const Mask* mask) {
  const Mask m = *mask;
  for (int64_t j = 0; j < width; ++j) {
    const float value = y[j] + bias[j];
    y[j] = (value < 0.0F ? 0.0F : value) * kept(m, place + static_cast<uint32_t>(j));
  }
}

DEC_VECTORISED void add_columns(const float* __restrict delta, float* __restrict sums, int64_t width) {
  for (int64_t j = 0; j < width; ++j) {
    sums[j] += delta[j];
  }
}

DEC_VECTORISED void relu_backward_columns(float* __restrict delta, const float* __restrict activation,
                                          float* __restrict sums, int64_t width, float scale) {
  for (int64_t j = 0; j < width; ++j) {
    const float value = activation[j] <= 0.0F ? 0.0F : delta[j] * scale;
    delta[j] = value;
    sums[j] += value;
  }
}

// y holds the product; it becomes the gradient of the mean squared error.
DEC_VECTORISED void mse_columns(float* __restrict y, const float* __restrict bias, const float* __restrict target,
                                float* __restrict sums, float* __restrict squares, int64_t width, bool relu, float factor) {
  if (relu) {
    for (int64_t j = 0; j < width; ++j) {
      const float linear = y[j] + bias[j];
      const float output = linear < 0.0F ? 0.0F : linear;
      const float difference = output - target[j];
      squares[j] += difference * difference;
      const float value = linear <= 0.0F ? 0.0F : difference * factor;
      y[j] = value;
      sums[j] += value;
    }
  } else {
    for (int64_t j = 0; j < width; ++j) {
      const float difference = y[j] + bias[j] - target[j];
      squares[j] += difference * difference;
      const float value = difference * factor;
      y[j] = value;
      sums[j] += value;
    }
  }
}

DEC_VECTORISED void descend(float* __restrict w, float* __restrict v, float rate, float decay, int64_t count) {
  if (decay == 0.0F) {
    for (int64_t i = 0; i < count; ++i) {
      w[i] -= rate * v[i];
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      v[i] += decay * w[i];
      w[i] -= rate * v[i];
    }
  }
}

DEC_VECTORISED void adam(float* __restrict w, const float* __restrict g, float* __restrict m, float* __restrict v,
                         const float* __restrict rates, const AdamRule* given, int64_t count) {
  const AdamRule rule = *given;
  const float rate = rates[0], root = rates[1], shrink = rates[2];
  const float new1 = 1.0F - rule.beta1, new2 = 1.0F - rule.beta2;
  for (int64_t i = 0; i < count; ++i) {
    const float gradient = g[i] + rule.decay * w[i];
    m[i] = rule.beta1 * m[i] + new1 * gradient;
    v[i] = rule.beta2 * v[i] + new2 * gradient * gradient;
    w[i] = shrink * w[i] - rate * m[i] / (std::sqrt(v[i]) * root + rule.epsilon);
  }
}

// Rows of a table [n, k] that one task sums.
constexpr int64_t kTableRows = 1024;

int64_t table_grain(int64_t k) { return std::max<int64_t>(1, dec::kGrain / (kTableRows * k)); }

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

void accumulate(float* gradient, const float* sums, int64_t count, float beta) {
  for (int64_t j = 0; j < count; ++j) {
    // beta 0 means "overwrite", whatever was there.
    gradient[j] = (beta == 0.0F ? 0.0F : beta * gradient[j]) + sums[j];
  }
}

// The gradient of a bias, beta * gradient + the sums over all rows of a [rows, width] table, which body(first row, rows, sums [width]) adds
// for each part of the rows, in parallel. Row by row, since a row's values follow each other in memory: those of a column do not.
template <typename Body>
void sum_columns(int64_t rows, int64_t width, float* gradient, float beta, const Body& body) {
  const int64_t count = parts(rows, kRows), grain = std::max<int64_t>(1, dec::kGrain / std::max<int64_t>(1, kRows * width));
  std::vector<float> sums(static_cast<std::size_t>(std::max<int64_t>(1, count) * width));
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      body(part * kRows, std::min(kRows, rows - part * kRows), sums.data() + part * width);
    }
  });
  for (int64_t part = 1; part < count; ++part) {
    add_columns(sums.data() + part * width, sums.data(), width);
  }
  accumulate(gradient, sums.data(), width, beta);
}

// One row's log q: returns the squared distances in `distances`, log q in `log_q`.
void student_t_row(const float* z, const float* centroids, int64_t k, int64_t m, float alpha, float* distances,
                   float* log_q) {
  const float exponent = -(alpha + 1.0F) / 2.0F;
  float highest = -INFINITY;
  for (int64_t j = 0; j < k; ++j) {
    float distance = 0.0F;
    for (int64_t c = 0; c < m; ++c) {
      const float difference = z[c] - centroids[j * m + c];
      distance += difference * difference;
    }
    distances[j] = distance;
    log_q[j] = exponent * std::log1p(distance / alpha);
    highest = std::max(highest, log_q[j]);
  }
  float sum = 0.0F;
  for (int64_t j = 0; j < k; ++j) {
    sum += std::exp(log_q[j] - highest);
  }
  const float log_sum = highest + std::log(sum);
  for (int64_t j = 0; j < k; ++j) {
    log_q[j] -= log_sum;
  }
}

}  // namespace

extern "C" {

// out = beta * out + a * b, on any device; a and b may be transposed views. With factors of bf16 if `bf16` says so.
char* dec_dense_product(const at::Tensor* out, const at::Tensor* a, const at::Tensor* b, float beta, bool bf16) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    if (out->is_cpu()) {
      if (bf16) {
        dec::forget_rounded(*out);
      }
      const bool rounds = bf16 && dec::multiplies_in_bf16(*a, *b);
      if (dec::sparse_product(*out, *a, *b, beta, rounds)) {
        return;
      }
      if (rounds) {
        dec::bf16_product(*out, *a, *b, beta);
        return;
      }
    }
    at::Tensor result = *out;
    if (out->is_cpu() && onednn_is_faster()) {
      const dec::WholeTeam team;
      at::native::mkldnn_matmul(*a, *b, result, beta, 1.0F);
    } else if (bf16 && out->is_cuda()) {
      at::addmm_out(result, result, a->to(at::kBFloat16), b->to(at::kBFloat16), at::kFloat, beta, 1.0F);
    } else {
      at::addmm_out(result, result, *a, *b, beta, 1.0F);
    }
  });
}

// out[i] = scale * stored[indices[i]]; false in `inside` if an index is outside the rows (out is then undefined).
char* dec_dense_gather(const at::Tensor* stored, const at::Tensor* indices, float scale, const at::Tensor* out,
                       bool* inside) {
  return guarded([&] {
    const int64_t n = stored->size(0), width = stored->size(1), rows = indices->numel();
    const int64_t* index = indices->const_data_ptr<int64_t>();
    float* to = out->mutable_data_ptr<float>();
    *inside = dec::all_inside(index, rows, n);
    if (!*inside) {
      return;
    }
    const bool bytes = stored->scalar_type() == at::kByte;
    const void* from = stored->const_data_ptr();
    at::parallel_for(0, rows, dec::row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        dec::scaled_values(from, bytes, index[i] * width, to + i * width, width, scale);
      }
    });
  });
}

// to = from, its values dropped by the mask and the others scaled; `to` may be `from`.
char* dec_dense_dropout(const at::Tensor* from, const at::Tensor* to, const at::Tensor* key, const Rule* rule) {
  return guarded([&] {
    const Mask mask = mask_of(key, rule);
    const float* source = from->const_data_ptr<float>();
    float* target = to->mutable_data_ptr<float>();
    const uint32_t before = mask.first * static_cast<uint32_t>(dec::row_width(*from));
    const Rounding rounding(*to, dec::rounded_pass(*to));
    at::parallel_for(0, from->numel(), dec::kGrain, [&](int64_t begin, int64_t end) {
      in_pieces(begin, end, rounding, [&](int64_t start, int64_t count) {
        drop(source + start, target + start, before + static_cast<uint32_t>(start), count, &mask);
      });
    });
  });
}

// y[rows, width] += bias, then ReLU if asked for, then dropout if there is a rule; in place.
char* dec_dense_activate(const at::Tensor* y, const at::Tensor* bias, bool relu, const at::Tensor* key,
                         const Rule* rule) {
  return guarded([&] {
    const bool drops = rule != nullptr;
    const Mask mask = drops ? mask_of(key, rule) : Mask{};
    const int64_t rows = y->size(0), width = y->size(1);
    float* values = y->mutable_data_ptr<float>();
    const float* b = bias->const_data_ptr<float>();
    const Rounding rounding(*y, dec::rounded_pass(*y));
    at::parallel_for(0, rows, dec::row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* row = values + i * width;
        const uint32_t place = (mask.first + static_cast<uint32_t>(i)) * static_cast<uint32_t>(width);
        if (relu && drops) {
          add_bias_relu_drop(row, b, width, place, &mask);
        } else if (relu) {
          add_bias_relu(row, b, width);
        } else {
          add_bias(row, b, width);
          if (drops) {
            drop(row, row, place, width, &mask);
          }
        }
        rounding.round(i * width, width);
      }
    });
  });
}

// The gradient at a layer's output becomes the one before its dropout and ReLU, in place; the bias's gradient is
// beta * gradient + the sums of its columns. With ReLU the activation tells what was kept: dropped values are 0.
char* dec_dense_activate_backward(const at::Tensor* delta, const at::Tensor* activation, bool relu, const at::Tensor* key,
                                  const Rule* rule, const at::Tensor* bias_gradient, float beta) {
  return guarded([&] {
    const bool drops = rule != nullptr;
    const Mask mask = drops ? mask_of(key, rule) : Mask{};
    const int64_t rows = delta->size(0), width = delta->size(1);
    float* d = delta->mutable_data_ptr<float>();
    const float* a = activation->const_data_ptr<float>();
    float* gradient = bias_gradient->mutable_data_ptr<float>();
    const Rounding rounding(*delta, dec::rounded_pass(*delta));
    sum_columns(rows, width, gradient, beta, [&](int64_t first, int64_t count, float* sums) {
      for (int64_t i = first; i < first + count; ++i) {
        float* row = d + i * width;
        if (relu) {
          relu_backward_columns(row, a + i * width, sums, width, drops ? mask.scale : 1.0F);
        } else {
          if (drops) {
            drop(row, row, (mask.first + static_cast<uint32_t>(i)) * static_cast<uint32_t>(width), width, &mask);
          }
          add_columns(row, sums, width);
        }
        rounding.round(i * width, width);
      }
    });
  });
}

// y holds the last layer's product and becomes weight * d(mean squared error)/dy before bias and activation. The loss, its
// mean over all values, is added to loss_sum, and the bias's gradient is beta * gradient + the sums of y's columns.
char* dec_dense_mse(const at::Tensor* y, const at::Tensor* bias, bool relu, const at::Tensor* target, double weight,
                    const at::Tensor* bias_gradient, float beta, const at::Tensor* loss_sum) {
  return guarded([&] {
    const int64_t rows = y->size(0), width = y->size(1);
    float* values = y->mutable_data_ptr<float>();
    const float* b = bias->const_data_ptr<float>();
    const float* t = target->const_data_ptr<float>();
    float* gradient = bias_gradient->mutable_data_ptr<float>();
    const double count = static_cast<double>(rows) * static_cast<double>(width);
    const auto factor = static_cast<float>(2.0 * weight / count);
    std::vector<double> losses(static_cast<std::size_t>(parts(rows, kRows)));
    const Rounding rounding(*y, dec::rounded_pass(*y));
    sum_columns(rows, width, gradient, beta, [&](int64_t first, int64_t part, float* sums) {
      double loss = 0.0;
      for (int64_t column = 0; column < width; column += kColumns) {
        const int64_t columns = std::min(kColumns, width - column);
        float squares[kColumns] = {};
        for (int64_t i = first; i < first + part; ++i) {
          const int64_t at = i * width + column;
          mse_columns(values + at, b + column, t + at, sums + column, squares, columns, relu, factor);
          rounding.round(at, columns);
        }
        for (int64_t j = 0; j < columns; ++j) {
          loss += squares[j];
        }
      }
      losses[static_cast<std::size_t>(first / kRows)] = loss;
    });
    double loss = 0.0;
    for (const double part : losses) {
      loss += part;
    }
    *loss_sum->mutable_data_ptr<double>() += weight * loss / count;
  });
}

// KL(P||Q) of a batch, the mean over its rows: weight times its gradients in dz (set) and in the centroids' gradient
// (beta * gradient + new), and weight times its value added to loss_sum. p[indices[i]] is row i's target.
char* dec_dense_kl(const at::Tensor* z, const at::Tensor* centroids, const at::Tensor* p, const at::Tensor* indices,
                   double alpha, double weight, const at::Tensor* dz, const at::Tensor* centroid_gradient, float beta,
                   const at::Tensor* loss_sum, bool* inside) {
  return guarded([&] {
    const int64_t rows = z->size(0), m = z->size(1), k = centroids->size(0), n = p->size(0);
    const float* zs = z->const_data_ptr<float>();
    const float* mu = centroids->const_data_ptr<float>();
    const float* ps = p->const_data_ptr<float>();
    const int64_t* index = indices->const_data_ptr<int64_t>();
    float* dzs = dz->mutable_data_ptr<float>();
    float* dmu = centroid_gradient->mutable_data_ptr<float>();
    *inside = dec::all_inside(index, rows, n);
    if (!*inside) {
      return;
    }
    const auto a = static_cast<float>(alpha);
    const auto factor = static_cast<float>(weight * (alpha + 1.0) / alpha / static_cast<double>(rows));
    const int64_t count = parts(rows, kRows);
    std::vector<float> gradients(static_cast<std::size_t>(count * k * m));
    std::vector<double> losses(static_cast<std::size_t>(count));
    at::parallel_for(0, count, std::max<int64_t>(1, dec::kGrain / (kRows * k * (m + 8))), [&](int64_t begin, int64_t end) {
      std::vector<float> distances(static_cast<std::size_t>(k));
      std::vector<float> log_q(static_cast<std::size_t>(k));
      for (int64_t part = begin; part < end; ++part) {
        float* sums = gradients.data() + part * k * m;
        double loss = 0.0;
        for (int64_t i = part * kRows; i < std::min(rows, (part + 1) * kRows); ++i) {
          const float* row = zs + i * m;
          const float* target = ps + index[i] * k;
          float* out = dzs + i * m;
          student_t_row(row, mu, k, m, a, distances.data(), log_q.data());
          std::fill(out, out + m, 0.0F);
          for (int64_t j = 0; j < k; ++j) {
            const float pull = factor * (target[j] - std::exp(log_q[j])) / (1.0F + distances[j] / a);
            for (int64_t c = 0; c < m; ++c) {
              const float term = pull * (row[c] - mu[j * m + c]);
              out[c] += term;
              sums[j * m + c] -= term;
            }
            if (target[j] > 0.0F) {
              loss += static_cast<double>(target[j]) * (std::log(target[j]) - log_q[j]);
            } else if (!(target[j] == 0.0F)) {
              loss += static_cast<double>(target[j]);  // NaN must show
            }
          }
        }
        losses[static_cast<std::size_t>(part)] = loss;
      }
    });
    double loss = 0.0;
    for (const double part : losses) {
      loss += part;
    }
    for (int64_t part = 1; part < count; ++part) {
      add_columns(gradients.data() + part * k * m, gradients.data(), k * m);
    }
    accumulate(dmu, gradients.data(), k * m, beta);
    *loss_sum->mutable_data_ptr<double>() += weight * loss / static_cast<double>(rows);
  });
}

// log q [n, k] of latent rows z [n, m].
char* dec_dense_log_soft_assignment(const at::Tensor* z, const at::Tensor* centroids, double alpha,
                                    const at::Tensor* log_q) {
  return guarded([&] {
    const int64_t n = z->size(0), m = z->size(1), k = centroids->size(0);
    const float* zs = z->const_data_ptr<float>();
    const float* mu = centroids->const_data_ptr<float>();
    float* out = log_q->mutable_data_ptr<float>();
    at::parallel_for(0, n, std::max<int64_t>(1, dec::kGrain / (k * (m + 8))), [&](int64_t begin, int64_t end) {
      std::vector<float> distances(static_cast<std::size_t>(k));
      for (int64_t i = begin; i < end; ++i) {
        student_t_row(zs + i * m, mu, k, m, static_cast<float>(alpha), distances.data(), out + i * k);
      }
    });
  });
}

// Of log q [n, k]: each row's most probable cluster, the sums of q over the rows [k], and the sum of each row's largest q.
char* dec_dense_shares(const at::Tensor* log_q, const at::Tensor* labels, double* frequency, double* confidence) {
  return guarded([&] {
    const int64_t n = log_q->size(0), k = log_q->size(1);
    const float* table = log_q->const_data_ptr<float>();
    int64_t* label = labels->mutable_data_ptr<int64_t>();
    const int64_t count = parts(n, kTableRows), width = k + 1;
    std::vector<double> sums(static_cast<std::size_t>(count * width));
    at::parallel_for(0, count, table_grain(k), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        double* sum = sums.data() + part * width;
        for (int64_t i = part * kTableRows; i < std::min(n, (part + 1) * kTableRows); ++i) {
          const float* row = table + i * k;
          label[i] = std::max_element(row, row + k) - row;
          for (int64_t j = 0; j < k; ++j) {
            sum[j] += std::exp(row[j]);
          }
          sum[k] += std::exp(row[label[i]]);
        }
      }
    });
    std::fill(frequency, frequency + k, 0.0);
    *confidence = 0.0;
    for (int64_t part = 0; part < count; ++part) {
      const double* sum = sums.data() + part * width;
      for (int64_t j = 0; j < k; ++j) {
        frequency[j] += sum[j];
      }
      *confidence += sum[k];
    }
  });
}

// log q [n, k] becomes p [n, k] in place, given f [k], the sums of q over all rows of the data set; also the sum of KL(p||q) over the rows.
char* dec_dense_target(const at::Tensor* log_q, const double* frequency, double* divergence) {
  return guarded([&] {
    const int64_t n = log_q->size(0), k = log_q->size(1);
    float* table = log_q->mutable_data_ptr<float>();
    std::vector<float> all(static_cast<std::size_t>(k));
    std::transform(frequency, frequency + k, all.begin(),
                   [](double sum) { return std::max(static_cast<float>(sum), std::numeric_limits<float>::min()); });
    const int64_t count = parts(n, kTableRows);
    std::vector<double> losses(static_cast<std::size_t>(count));
    at::parallel_for(0, count, table_grain(k), [&](int64_t begin, int64_t end) {
      std::vector<float> weights(static_cast<std::size_t>(k));
      for (int64_t part = begin; part < end; ++part) {
        double loss = 0.0;
        for (int64_t i = part * kTableRows; i < std::min(n, (part + 1) * kTableRows); ++i) {
          float* row = table + i * k;
          float total = 0.0F;
          for (int64_t j = 0; j < k; ++j) {
            const float q = std::exp(row[j]);
            const float weight = q * q / all[static_cast<std::size_t>(j)];
            weights[static_cast<std::size_t>(j)] = weight;
            total += weight;
          }
          for (int64_t j = 0; j < k; ++j) {
            const float p = weights[static_cast<std::size_t>(j)] / total;
            if (p != 0.0F) {  // NaN counts
              loss += static_cast<double>(p) * (std::log(p) - row[j]);
            }
            row[j] = p;
          }
        }
        losses[static_cast<std::size_t>(part)] = loss;
      }
    });
    *divergence = 0.0;
    for (const double part : losses) {
      *divergence += part;
    }
  });
}

// v += decay * w, then w -= rate * v, the rate read from a tensor of one value.
char* dec_dense_descend(const at::Tensor* w, const at::Tensor* v, const at::Tensor* rate, float decay) {
  return guarded([&] {
    float* weights = w->mutable_data_ptr<float>();
    float* velocity = v->mutable_data_ptr<float>();
    const float r = *rate->const_data_ptr<float>();
    move(*w, [&](int64_t begin, int64_t count) { descend(weights + begin, velocity + begin, r, decay, count); });
  });
}

// A step of Adam; `rates` holds what depends on the step's number.
char* dec_dense_adam(const at::Tensor* w, const at::Tensor* g, const at::Tensor* m, const at::Tensor* v,
                     const at::Tensor* rates, const AdamRule* rule) {
  return guarded([&] {
    float* weights = w->mutable_data_ptr<float>();
    const float* gradient = g->const_data_ptr<float>();
    float* first = m->mutable_data_ptr<float>();
    float* second = v->mutable_data_ptr<float>();
    const float* given = rates->const_data_ptr<float>();
    move(*w, [&](int64_t begin, int64_t count) {
      adam(weights + begin, gradient + begin, first + begin, second + begin, given, rule, count);
    });
  });
}

}  // extern "C"
