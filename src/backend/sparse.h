// See sparse.cpp.
#pragma once

#include <ATen/ATen.h>

namespace dec {

// out = beta * out + a * b for float32 tensors on the CPU, `out` contiguous, `a` and `b` contiguous or the transposed views of
// such, if the zeros of `a` make that faster than a dense product (`bf16`: than one in bf16). If not, nothing is done and the
// answer is false.
bool sparse_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta, bool bf16);

}  // namespace dec
