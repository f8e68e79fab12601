// SPDX-License-Identifier: GPL-3.0-or-later
// A step captured once and replayed, and events that time its ops.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "engine/cuda/forward.h"

namespace winnow::cuda {

class CapturedStep {
 public:
  // Queues what `queue` queues, without running it. The stream is whole again when it throws.
  CapturedStep(Stream stream, const std::function<void()>& queue);
  ~CapturedStep();
  CapturedStep(const CapturedStep&) = delete;
  CapturedStep& operator=(const CapturedStep&) = delete;
  void launch(Stream stream) const;

 private:
  void* exec_ = nullptr;  // cudaGraphExec_t
};

// An event before and after each op. Inside a captured step they are nodes of it and serve every replay; a step without them has none:
// absent is free. CUPTI's activity records would tell kernels apart within an op, but need a library beside the driver, buffers drained on
// another thread, and no other profiler attached; what a person sees is ops, and events tell those.
class EventMarks final : public OpMarks {
 public:
  EventMarks(Stream stream, size_t ops);
  ~EventMarks() override;
  EventMarks(const EventMarks&) = delete;
  EventMarks& operator=(const EventMarks&) = delete;
  void capturing(bool on) { capturing_ = on; }
  void begin(size_t op) override;
  void end() override;
  int64_t ns(size_t op) const;  // of the last time it ran; waits for it. Events tell time in steps of about half a microsecond

 private:
  void record(void* event) const;
  Stream stream_;
  std::vector<void*> events_;  // cudaEvent_t, two to an op
  size_t op_ = 0;
  bool capturing_ = false;
};

}  // namespace winnow::cuda
