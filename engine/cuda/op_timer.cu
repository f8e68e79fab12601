// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/op_timer.h"

#include <cuda_runtime.h>

#include <cmath>

#include "engine/cuda/checked.h"

namespace winnow::cuda {

OpTimer::~OpTimer() {
  for (CUevent_st* event : events_) cudaEventDestroy(event);
}

void OpTimer::begin(Stream stream) {
  marked_ = 0;
  mark(stream);
}

void OpTimer::done(Stream stream) { mark(stream); }

void OpTimer::mark(Stream stream) {
  if (static_cast<size_t>(marked_) == events_.size()) {
    CUevent_st* event = nullptr;
    throwIfFailed(cudaEventCreateWithFlags(&event, cudaEventDefault), "event");
    events_.push_back(event);
  }
  // External: while a step is captured the event becomes a node of the graph, not a dependency of the capture.
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  throwIfFailed(cudaStreamIsCapturing(stream, &capturing), "capture");
  const unsigned flags = capturing == cudaStreamCaptureStatusActive ? cudaEventRecordExternal : cudaEventRecordDefault;
  throwIfFailed(cudaEventRecordWithFlags(events_[static_cast<size_t>(marked_++)], stream, flags), "event");
}

std::vector<int64_t> OpTimer::nanoseconds() const {
  std::vector<int64_t> out;
  if (marked_ < 2) return out;
  throwIfFailed(cudaEventSynchronize(events_[static_cast<size_t>(marked_) - 1]), "wait");
  for (size_t i = 1; i < static_cast<size_t>(marked_); ++i) {
    float milliseconds = 0;
    throwIfFailed(cudaEventElapsedTime(&milliseconds, events_[i - 1], events_[i]), "time");
    out.push_back(std::llround(static_cast<double>(milliseconds) * 1e6));
  }
  return out;
}

}  // namespace winnow::cuda
