// SPDX-License-Identifier: GPL-3.0-or-later
// Time of each op of a plan on the device: an event before the first op and one after each, recorded while the step is captured, so that
// they are nodes of the graph and fire in its place at every replay. A graph without a timer has none of them: absent is free.
//
// CUPTI's activity records would tell kernels apart within an op and leave the graph as it is, but need a library beside the driver,
// buffers that are drained on another thread, and no other profiler attached; what a person sees is ops, and events tell those.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/cuda/memory.h"

struct CUevent_st;

namespace winnow::cuda {

class OpTimer {
 public:
  OpTimer() = default;
  ~OpTimer();
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

  // Before the first op of a step that is queued or captured; then done(stream) after each op, in order.
  void begin(Stream stream);
  void done(Stream stream);
  int ops() const { return marked_ - 1; }

  // Of the last step that ran; waits for it. An event tells time in steps of about half a microsecond.
  std::vector<int64_t> nanoseconds() const;  // [ops]

 private:
  void mark(Stream stream);
  std::vector<CUevent_st*> events_;
  int marked_ = 0;
};

}  // namespace winnow::cuda
