// Operations of libtorch's on lists of tensors and with a factor, which tch does not bind: on a GPU each is started as one. On any device.

#include <cstddef>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "adam.h"
#include "guard.h"

using dec::AdamRule;
using dec::guarded;

namespace {

std::vector<at::Tensor> list(const at::Tensor* const* tensors, std::size_t count) {
  std::vector<at::Tensor> listed;
  for (std::size_t i = 0; i < count; ++i) {
    listed.push_back(*tensors[i]);
  }
  return listed;
}

}  // namespace

extern "C" {

// v += decay * w, then w -= rate * v, for `count` parameters.
char* dec_fused_descend(const at::Tensor* const* w, const at::Tensor* const* v, std::size_t count, const at::Tensor* rate,
                        float decay) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const std::vector<at::Tensor> weights = list(w, count), velocities = list(v, count);
    if (decay != 0.0F) {
      at::_foreach_add_(velocities, weights, decay);
    }
    at::_fused_sgd_(weights, velocities, {}, /*weight_decay=*/0.0, /*momentum=*/0.0, *rate, /*dampening=*/0.0,
                    /*nesterov=*/false, /*maximize=*/false, /*is_first_step=*/false);
  });
}

// A step of Adam, or of AdamW where the decay is apart; `rates` as in dense.rs.
char* dec_fused_adam(const at::Tensor* const* w, const at::Tensor* const* g, const at::Tensor* const* m,
                     const at::Tensor* const* v, std::size_t count, const at::Tensor* rates, const AdamRule* rule) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const std::vector<at::Tensor> steps(count, rates->select(0, 4));
    const auto move = [&](auto operation, double decay) {
      operation(list(w, count), list(g, count), list(m, count), list(v, count), {}, steps, rates->select(0, 3), rule->beta1,
                rule->beta2, decay, rule->epsilon, /*amsgrad=*/false, /*maximize=*/false, {}, {});
    };
    if (rule->apart != 0.0F) {
      move(at::_ops::_fused_adamw__tensor_lr::call, rule->apart);
    } else {
      move(at::_ops::_fused_adam__tensor_lr::call, rule->decay);
    }
  });
}

// sums = keep * sums + the sums of the columns, as a product with ones.
char* dec_fused_add_columns(const at::Tensor* gradient, const at::Tensor* sums, float keep) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::Tensor result = *sums;
    at::addmv_out(result, result, gradient->t(), at::ones({gradient->size(0)}, gradient->options()), keep, 1.0F);
  });
}

}  // extern "C"
