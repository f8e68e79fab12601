// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/graph.h"

#include <cuda_runtime.h>

#include <cmath>

#include "engine/cuda/checked.h"

namespace winnow::cuda {

CapturedStep::CapturedStep(Stream stream, const std::function<void()>& queue) {
  cudaGraph_t captured = nullptr;
  throwIfFailed(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  try {
    queue();
  } catch (...) {
    if (cudaStreamEndCapture(stream, &captured) == cudaSuccess) cudaGraphDestroy(captured);
    throw;
  }
  throwIfFailed(cudaStreamEndCapture(stream, &captured), "capture");
  cudaGraphExec_t exec = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&exec, captured, 0);
  cudaGraphDestroy(captured);
  throwIfFailed(made, "graph");
  exec_ = exec;
}

CapturedStep::~CapturedStep() { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(exec_)); }

void CapturedStep::launch(Stream stream) const { throwIfFailed(cudaGraphLaunch(static_cast<cudaGraphExec_t>(exec_), stream), "launch"); }

EventMarks::EventMarks(Stream stream, size_t ops) : stream_(stream) {
  for (size_t i = 0; i < 2 * ops; ++i) {
    cudaEvent_t event = nullptr;
    throwIfFailed(cudaEventCreateWithFlags(&event, cudaEventDefault), "event");
    events_.push_back(event);
  }
}

EventMarks::~EventMarks() {
  for (void* event : events_) cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

void EventMarks::record(void* event) const {
  throwIfFailed(cudaEventRecordWithFlags(static_cast<cudaEvent_t>(event), stream_, capturing_ ? cudaEventRecordExternal : cudaEventRecordDefault), "event");
}

void EventMarks::begin(size_t op) {
  op_ = op;
  record(events_[2 * op]);
}

void EventMarks::end() { record(events_[2 * op_ + 1]); }

int64_t EventMarks::ns(size_t op) const {
  float ms = 0;
  throwIfFailed(cudaEventSynchronize(static_cast<cudaEvent_t>(events_[2 * op + 1])), "wait");
  throwIfFailed(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(events_[2 * op]), static_cast<cudaEvent_t>(events_[2 * op + 1])), "event");
  return std::llround(static_cast<double>(ms) * 1e6);
}

}  // namespace winnow::cuda
