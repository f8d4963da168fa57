// What libtorch has and tch does not bind: the fused SGD step and building a TorchScript module from source.

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/version.h>

#include "guard.h"

using dec::guarded;

namespace {

std::vector<at::Tensor> tensors(const at::Tensor* const* pointers, std::size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    list.push_back(*pointers[i]);
  }
  return list;
}

}  // namespace

extern "C" {

// The version of the headers this file was compiled against; static, not to be freed.
const char* dec_shim_libtorch_version() { return TORCH_VERSION; }

// Frees an error message or the bytes of dec_shim_module_save.
void dec_shim_free(char* text) {
  if (text != dec::out_of_memory) {
    std::free(text);
  }
}

// v = momentum * v + g; w = w - learning_rate * v, in place for `count` triples (w, g, v).
// The caller has checked that each triple agrees in shape, type and device and that w and v are contiguous.
char* dec_shim_sgd_step(const at::Tensor* const* parameters, const at::Tensor* const* gradients,
                        const at::Tensor* const* momenta, std::size_t count, double learning_rate, double momentum) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> w = tensors(parameters, count);
    std::vector<at::Tensor> g = tensors(gradients, count);
    std::vector<at::Tensor> v = tensors(momenta, count);
    // The kernels walk the three in memory order; autograd may hand over a transposed gradient.
    for (at::Tensor& gradient : g) {
      gradient = gradient.contiguous();
    }
    // The first step needs no special case: v starts at 0.
    at::_fused_sgd_(w, g, v, /*weight_decay=*/0.0, momentum, learning_rate, /*dampening=*/0.0, /*nesterov=*/false,
                    /*maximize=*/false, /*is_first_step=*/false, /*grad_scale=*/std::nullopt,
                    /*found_inf=*/std::nullopt);
  });
}

// A new, empty module in evaluation mode; its Python class is __torch__.<name>.
char* dec_shim_module_new(const char* name, torch::jit::Module** out) {
  return guarded([&] {
    torch::jit::Module module(name);
    // What Module.eval(), Module.train() and `module.training` look for in Python.
    module.register_attribute("training", c10::BoolType::get(), false);
    *out = new torch::jit::Module(std::move(module));
  });
}

void dec_shim_module_delete(torch::jit::Module* module) { delete module; }

char* dec_shim_module_register_parameter(torch::jit::Module* module, const char* name, const at::Tensor* value) {
  return guarded([&] {
    // A second one of the name would silently replace the first.
    TORCH_CHECK(!module->hasattr(name), "the module has a '", name, "' already");
    module->register_parameter(name, *value, /*is_buffer=*/false);
  });
}

// Compiles `source`, one or more `def`s in TorchScript, as methods of the module.
char* dec_shim_module_define(torch::jit::Module* module, const char* source) {
  return guarded([&] { module->define(source); });
}

// The module's archive. It is written to memory, so that no file's name goes into it and equal modules give equal bytes.
char* dec_shim_module_save(const torch::jit::Module* module, char** bytes, std::size_t* length) {
  return guarded([&] {
    std::ostringstream stream;
    module->save(stream);
    const std::string archive = stream.str();
    char* copy = static_cast<char*>(std::malloc(archive.size()));
    TORCH_CHECK(copy != nullptr, "no memory for an archive of ", archive.size(), " bytes");
    std::memcpy(copy, archive.data(), archive.size());
    *bytes = copy;
    *length = archive.size();
  });
}

}  // extern "C"
