// The rules of the C++ boundary, which the Rust wrappers rely on:
// - A function that can fail returns an error message, or nullptr for success. The message belongs to the caller, who
//   gives it to dec_shim_free.
// - No exception leaves: every body is inside `guarded`.
// - Tensors come as pointers to at::Tensor (what tch's Tensor::as_ptr gives) and are borrowed for the call only.
#pragma once

#include <cstring>
#include <exception>

#include <c10/util/Exception.h>

namespace dec {

// Returned when there is no memory left even for the message; dec_shim_free knows it.
inline char out_of_memory[] = "out of memory";

inline char* message(const char* text) noexcept {
  char* copy = strdup(text);
  return copy != nullptr ? copy : out_of_memory;
}

template <typename Body>
char* guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return message(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return message(error.what());
  } catch (...) {
    return message("an exception that is not a std::exception");
  }
}

}  // namespace dec
