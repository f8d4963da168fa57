// The precision of float32 products on a GPU, which tch does not bind.

#include <ATen/Context.h>

#include "guard.h"

extern "C" {

// setAllowTF32CuBLAS and not the newer setFloat32Precision: libtorch 2.11 keeps an older flag beside the newer one, throws
// where the two disagree, and only this sets both.
char* dec_shim_set_tf32(bool allow) {
  return dec::guarded([&] { at::globalContext().setAllowTF32CuBLAS(allow); });
}

char* dec_shim_get_tf32(bool* out) {
  return dec::guarded([&] { *out = at::globalContext().allowTF32CuBLAS(); });
}

}  // extern "C"
