// Products of float32 matrices whose factors are rounded to bf16, 8 bits of fraction in float32's range. Sums stay in float32.
//
// Processors with AVX512-BF16 or AMX multiply such factors several times as fast as float32. MKL does it on Intel's
// processors, oneDNN on AMD's, where MKL keeps to AVX2; that one also rounds what the sums come to. On other processors the
// rounded factors are multiplied as float32, which is slower than to leave them as they are, and shows what rounding does.

#include "bf16.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "parallel.h"

namespace at::native {
// In libtorch_cpu, but in none of its headers; see dense.cpp.
TORCH_API void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);
}  // namespace at::native

// MKL's, inside libtorch_cpu where that was built with it. Row-major is 101; as it is and transposed, 111 and 112.
extern "C" __attribute__((weak)) void cblas_gemm_bf16bf16f32(int layout, int a_transposed, int b_transposed, int m, int n,
                                                             int k, float alpha, const uint16_t* a, int lda,
                                                             const uint16_t* b, int ldb, float beta, float* c, int ldc);

namespace dec {
namespace {

// With fewer rows, columns or terms a sum, rounding the factors costs what their product saves.
constexpr int64_t kLeast = 64;

// The nearest bf16, of two equally near ones the even one; NaN stays NaN.
DEC_INLINE void round_values(const float* __restrict from, uint16_t* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = from[i];
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t up = 0x7fffU + (bits >> 16 & 1U);
    const uint32_t rounded = value == value ? bits + up : bits | 0x400000U;
    to[i] = static_cast<uint16_t>(rounded >> 16);
  }
}

DEC_VECTORISED void round_row(const float* __restrict from, uint16_t* __restrict to, int64_t count) { round_values(from, to, count); }

#if defined(__x86_64__)
// AVX512BW narrows 32 values in one instruction; the clones of DEC_VECTORISED lack it.
__attribute__((target("avx512f,avx512bw,avx512vl,prefer-vector-width=512"))) void round_row_avx512(const float* __restrict from,
                                                                                               uint16_t* __restrict to, int64_t count) {
  round_values(from, to, count);
}
#endif

DEC_VECTORISED void add_rounded(float* __restrict out, const uint16_t* __restrict product, float beta, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(product[i]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    out[i] = (beta == 0.0F ? 0.0F : beta * out[i]) + value;
  }
}

// A factor as it lies in memory, rows of `stride` values, and whether its rows are the matrix's columns.
struct Factor {
  uint16_t* data;
  int64_t stride;
  bool transposed;
};

// Memory for a rounded matrix, kept from product to product.
class Scratch {
 public:
  uint16_t* of(int64_t count) {
    if (!values_.defined() || values_.numel() < count) {
      values_ = at::empty({count}, at::kBFloat16);
    }
    return static_cast<uint16_t*>(values_.mutable_data_ptr());
  }

  void round(const at::Tensor& tensor) {
    const int64_t count = tensor.numel();
    const float* from = tensor.const_data_ptr<float>();
    uint16_t* to = of(count);
    at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) { round_to_bf16(from + begin, to + begin, end - begin); });
  }

 private:
  at::Tensor values_;
};

// Rounded factors of a step's products: each is one of two or three, and is rounded by the pass that writes it, else for the first.
class Kept {
 public:
  void begin() {
    // What the last step had no use for has been freed, or is of another stage.
    entries_.erase(std::remove_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return !entry.used; }), entries_.end());
    for (Entry& entry : entries_) {
      entry.used = false;
      entry.fresh = entry.fresh && entry.weight.defined() && entry.weight._version() == entry.version;
    }
    on_ = true;
  }

  uint16_t* written(const at::Tensor& tensor) {
    Entry* entry = freshened(tensor);
    return entry == nullptr ? nullptr : entry->rounded.of(entry->count);
  }

  uint16_t* weight(const at::Tensor& weight) {
    Entry* entry = freshened(weight);
    if (entry == nullptr) {
      return nullptr;
    }
    entry->weight = weight;
    entry->version = weight._version();
    return entry->rounded.of(entry->count);
  }

  void end() { on_ = false; }

  void clear() { entries_.clear(); }

  void forget(const at::Tensor& tensor) {
    for (Entry& entry : entries_) {
      entry.fresh = entry.fresh && entry.from != tensor.const_data_ptr();
    }
  }

  // `spare` is for what is not kept.
  Factor round(const at::Tensor& tensor, Scratch& spare) {
    Scratch* scratch = &spare;
    bool fresh = false;
    if (on_) {
      Entry& entry = entry_of(tensor);
      fresh = std::exchange(entry.fresh, true);
      entry.used = true;
      scratch = &entry.rounded;
    }
    if (!fresh) {
      scratch->round(tensor);
    }
    const bool transposed = !tensor.is_contiguous();
    return {scratch->of(tensor.numel()), transposed ? tensor.size(0) : tensor.size(1), transposed};
  }

 private:
  struct Entry {
    const void* from = nullptr;
    int64_t count = 0;
    bool used = false, fresh = false;
    Scratch rounded = {};
    // What `rounded` is of beyond the step, held so that nothing else comes to lie there, and which of its versions: whoever writes a weight
    // past libtorch has to raise its version.
    at::Tensor weight = {};
    int64_t version = 0;
  };

  Entry* find(const at::Tensor& tensor) {
    for (Entry& entry : entries_) {
      if (entry.from == tensor.const_data_ptr() && entry.count == tensor.numel()) {
        return &entry;
      }
    }
    return nullptr;
  }

  // The entry of what its writer is about to round; null where none is kept.
  Entry* freshened(const at::Tensor& tensor) {
    Entry* entry = on_ ? find(tensor) : nullptr;
    if (entry != nullptr) {
      entry->fresh = true;
    }
    return entry;
  }

  Entry& entry_of(const at::Tensor& tensor) {
    if (Entry* entry = find(tensor)) {
      return *entry;
    }
    Entry& added = entries_.emplace_back();
    added.from = tensor.const_data_ptr();
    added.count = tensor.numel();
    return added;
  }

  bool on_ = false;
  std::vector<Entry> entries_;
};

thread_local Kept kept;

at::Tensor view(uint16_t* data, int64_t rows, int64_t columns) {
  return at::from_blob(data, {rows, columns}, at::TensorOptions().dtype(at::kBFloat16));
}

enum class Multiplier { kFloat32, kMkl, kOneDnn };

bool processor_multiplies() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx512bw") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1U) != 0;
#else
  return false;
#endif
}

Multiplier multiplier() {
  static const Multiplier answer = [] {
    if (!processor_multiplies()) {
      return Multiplier::kFloat32;
    }
#if defined(__x86_64__)
    if (__builtin_cpu_is("amd")) {
      try {
        const at::Tensor ones = at::ones({kLeast, kLeast}, at::kBFloat16);
        at::native::mkldnn_matmul(ones, ones, at::zeros({kLeast, kLeast}, at::kBFloat16), 0.0F, 1.0F);
        return Multiplier::kOneDnn;
      } catch (const std::exception&) {
        return Multiplier::kFloat32;  // its environment variables can forbid it
      }
    }
#endif
    return cblas_gemm_bf16bf16f32 == nullptr ? Multiplier::kFloat32 : Multiplier::kMkl;
  }();
  return answer;
}

}  // namespace

bool multiplies_in_bf16(const at::Tensor& a, const at::Tensor& b) {
  const auto plain = [](const at::Tensor& tensor) { return tensor.is_contiguous() || tensor.t().is_contiguous(); };
  return std::min({a.size(0), a.size(1), b.size(1)}) >= kLeast && plain(a) && plain(b);
}

void bf16_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta) {
  const int64_t n = a.size(0), terms = a.size(1), m = b.size(1);
  thread_local Scratch scratch[3];
  const Factor left = kept.round(a, scratch[0]), right = kept.round(b, scratch[1]);
  const auto matrix = [](const Factor& factor, int64_t rows, int64_t columns) {
    return factor.transposed ? view(factor.data, columns, rows).t() : view(factor.data, rows, columns);
  };
  if (multiplier() == Multiplier::kFloat32) {
    at::Tensor result = out;
    at::addmm_out(result, result, matrix(left, n, terms).to(at::kFloat), matrix(right, terms, m).to(at::kFloat), beta, 1.0F);
    return;
  }
  float* sums = out.mutable_data_ptr<float>();
  if (multiplier() == Multiplier::kMkl) {
    const auto order = [](const Factor& factor) { return factor.transposed ? 112 : 111; };
    const auto size = [](int64_t value) { return static_cast<int>(value); };
    cblas_gemm_bf16bf16f32(101, order(left), order(right), size(n), size(m), size(terms), 1.0F, left.data, size(left.stride),
                           right.data, size(right.stride), beta, sums, size(m));
    return;
  }
  uint16_t* product = scratch[2].of(n * m);
  {
    const WholeTeam team;
    at::native::mkldnn_matmul(matrix(left, n, terms), matrix(right, terms, m), view(product, n, m), 0.0F, 1.0F);
  }
  at::parallel_for(0, n * m, kGrain, [&](int64_t begin, int64_t end) {
    add_rounded(sums + begin, product + begin, beta, end - begin);
  });
}

void forget_rounded(const at::Tensor& tensor) { kept.forget(tensor); }

uint16_t* rounded_weight(const at::Tensor& weight) { return kept.weight(weight); }

uint16_t* rounded_pass(const at::Tensor& written) { return kept.written(written); }

void round_to_bf16(const float* from, uint16_t* to, int64_t count) {
#if defined(__x86_64__)
  if (vectors() == Vectors::kAvx512) {
    round_row_avx512(from, to, count);
    return;
  }
#endif
  round_row(from, to, count);
}

}  // namespace dec

// From here to dec_bf16_end a factor of this thread's products is rounded once, until a product writes to it: nothing else may change it.
extern "C" void dec_bf16_begin() { dec::kept.begin(); }
extern "C" void dec_bf16_end() { dec::kept.end(); }
// Gives back what it has kept.
extern "C" void dec_bf16_clear() { dec::kept.clear(); }

// Whether the processor has instructions for products of bf16, and something here uses them.
extern "C" bool dec_bf16_is_native() { return dec::multiplier() != dec::Multiplier::kFloat32; }
