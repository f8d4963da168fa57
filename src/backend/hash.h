// Random bits that are a function of a place under a key: the same for any number of threads, and without a state.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace dec {

struct Keys {
  uint32_t first;
  uint32_t second;
};

// Two keys from the 64 bits of one; `site` tells apart what one step draws under the same key.
inline Keys keys_of(int64_t key, uint32_t site) {
  const auto bits = static_cast<uint64_t>(key);
  return {static_cast<uint32_t>(bits) + site, static_cast<uint32_t>(bits >> 32)};
}

// Wellons's `lowbias32`.
DEC_INLINE uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  x ^= x >> 16;
  return x;
}

// 32 random bits for a place.
DEC_INLINE uint32_t hashed(const Keys& keys, uint32_t place) {
  return mix(mix(place + keys.first) ^ keys.second);
}

}  // namespace dec
