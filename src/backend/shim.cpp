// What libtorch has and tch does not bind: building a TorchScript module from source.

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/version.h>

#include "guard.h"

using dec::guarded;

extern "C" {

// The version of the headers this file was compiled against; static, not to be freed.
const char* dec_shim_libtorch_version() { return TORCH_VERSION; }

// Frees an error message or the bytes of dec_shim_module_save.
void dec_shim_free(char* text) {
  if (text != dec::out_of_memory) {
    std::free(text);
  }
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
