// See bf16.cpp.
#pragma once

#include <ATen/ATen.h>

namespace dec {

// out = beta * out + a * b for float32 tensors on the CPU, `out` contiguous, `a` and `b` contiguous or the transposed views of
// such: both factors rounded to bf16, what they give summed in float32. If the product is too small for that to pay, or nothing
// here multiplies bf16, nothing is done and the answer is false.
bool bf16_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta);

}  // namespace dec
