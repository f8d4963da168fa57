// CUDA graphs. A library of its own, libdec_cuda.so, loaded after libtorch_cuda: the program itself links to no CUDA.
// The rules of guard.h hold, with dec_cuda_free in place of dec_shim_free.

#include <cstdlib>
#include <optional>

#include <ATen/cuda/CUDAGraph.h>
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

}  // extern "C"
