// See bf16.cpp.
#pragma once

#include <ATen/ATen.h>

namespace dec {

// Whether bf16_product takes a * b: both are contiguous or transposed views of such, and large enough for that to pay.
bool multiplies_in_bf16(const at::Tensor& a, const at::Tensor& b);

// out = beta * out + a * b for float32 tensors on the CPU, `out` contiguous: both factors rounded to bf16, what they give
// summed in float32.
void bf16_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta);

// `tensor` is about to be written: what is kept of it, rounded, is no longer it.
void forget_rounded(const at::Tensor& tensor);

// Where to leave the new values of a weight that is about to be moved, rounded by round_to_bf16; null where nobody wants them. They are the
// weight's factor from then on, until something else than this changes it.
uint16_t* rounded_weight(const at::Tensor& weight);

// The same for what a pass is about to write, as a factor of this step: null also if it was none in the last step.
uint16_t* rounded_pass(const at::Tensor& written);

void round_to_bf16(const float* from, uint16_t* to, int64_t count);

}  // namespace dec
