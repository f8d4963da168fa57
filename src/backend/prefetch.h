// Memory that is needed soon and that the processor cannot foresee.
#pragma once

#include <cstdint>

namespace dec {

// Begins to bring `size` bytes, at least one, into the cache.
inline void prefetch(const void* from, int64_t size) {
  constexpr int64_t kLine = 64;
  const char* bytes = static_cast<const char*>(from);
  for (int64_t at = 0; at < size; at += kLine) {
    __builtin_prefetch(bytes + at);
  }
  __builtin_prefetch(bytes + size - 1);  // what begins inside a line ends in one more
}

}  // namespace dec
