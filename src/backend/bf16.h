// See bf16.cpp.
#pragma once

#include <ATen/ATen.h>

namespace dec {

// Whether bf16_product takes a * b: both are contiguous or transposed views of such, and large enough for that to pay.
bool multiplies_in_bf16(const at::Tensor& a, const at::Tensor& b);

// out = beta * out + a * b for float32 tensors on the CPU, `out` contiguous: both factors rounded to bf16, what they give
// summed in float32.
void bf16_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta);

}  // namespace dec
