// CUDA graphs, and what takes libtorch's own operations too long. A library of its own, libdec_cuda.so, loaded after libtorch_cuda: the program itself links to no CUDA.
// The rules of guard.h hold, with dec_cuda_free in place of dec_shim_free.

#include <cstdlib>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/cuda/jiterator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/version.h>

#include "../guard.h"

using dec::guarded;

namespace {

struct Graph {
  explicit Graph(c10::DeviceIndex device_)
      : device(device_), side(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device_)) {}

  c10::DeviceIndex device;
  c10::cuda::CUDAStream side;                   // the default stream cannot be captured
  std::optional<c10::cuda::CUDAStream> before;  // the current stream outside the capture; set during one
  at::cuda::CUDAGraph graph;
};

void leave(Graph& graph) {
  if (graph.before.has_value()) {
    c10::cuda::setCurrentCUDAStream(*graph.before);
    graph.before.reset();
  }
}

}  // namespace

extern "C" {

// The version of the headers this file was compiled against; static, not to be freed.
const char* dec_cuda_libtorch_version() { return TORCH_VERSION; }

// Frees an error message.
void dec_cuda_free(char* text) {
  if (text != dec::out_of_memory) {
    std::free(text);
  }
}

char* dec_cuda_graph_new(int device, Graph** out) {
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    *out = new Graph(static_cast<c10::DeviceIndex>(device));
  });
}

void dec_cuda_graph_delete(Graph* graph) {
  // What goes wrong here has no one to be told to; the message is not leaked.
  dec_cuda_free(guarded([&] { delete graph; }));
}

// From here to dec_cuda_graph_end, what libtorch is told to do on the device is recorded and not done.
char* dec_cuda_graph_begin(Graph* graph) {
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(graph->device);
    // What was started on the other streams is done before, and is no part of the graph.
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();  // the graph's memory is a pool of its own
    graph->before = c10::cuda::getCurrentCUDAStream(graph->device);
    c10::cuda::setCurrentCUDAStream(graph->side);
    try {
      graph->graph.capture_begin();
    } catch (...) {
      leave(*graph);
      throw;
    }
  });
}

char* dec_cuda_graph_end(Graph* graph) {
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(graph->device);
    try {
      graph->graph.capture_end();
    } catch (...) {
      leave(*graph);
      throw;
    }
    leave(*graph);
  });
}

// On the current stream, in order with what else is on it; does not wait for the end.
char* dec_cuda_graph_replay(Graph* graph) {
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(graph->device);
    graph->graph.replay();
  });
}

// A new tensor: hashed of hash.h for `places` of rows of `width` values, which begin at row key[1]. Compiled by libtorch at the first call of a
// process (it keeps it in a cache of the user's); that one may not be recorded.
char* dec_cuda_drawn(const at::Tensor* places, int64_t width, const at::Tensor* key, int64_t site, at::Tensor** out) {
  static const std::string source = R"(
template <typename T> T drawn(T place, T key, T first, T width, T site) {
  unsigned x = (unsigned)(unsigned long long)(place + first * width) + (unsigned)(unsigned long long)(key + site);
  for (int i = 0; i < 2; ++i) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    if (i == 0) x ^= (unsigned)((unsigned long long)key >> 32);
  }
  return (T)(unsigned long long)x;
})";
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(places->device());
    const auto made = at::cuda::CompileAndLaunchKernel(source, "drawn", 1, {*places, key->narrow(0, 0, 1), key->narrow(0, 1, 1)},
                                                       {at::Scalar(width), at::Scalar(site)}, /*return_by_ref=*/false);
    *out = new at::Tensor(made[0]);
  });
}

}  // extern "C"
