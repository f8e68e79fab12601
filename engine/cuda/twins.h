// SPDX-License-Identifier: GPL-3.0-or-later
// 16-bit twins of packed weights (compute.prefill_twin): what a long prompt has them decoded to (products.h), kept for the next prompts. A twin
// changes no bit of a product. It is spare memory: whoever finds the device full takes it back, from any thread, and slices are decoded again.
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "engine/cuda/memory.h"
#include "engine/plan/numerics.h"

namespace winnow::cuda {

class Twins {
 public:
  explicit Twins(Ledger& ledger);

  // From now on for the weights of this serial (WeightSet), in this mode. Twins of other weights are let go.
  void follow(uint64_t weights, PrefillTwin mode);
  void follow(uint64_t weights) { follow(weights, mode_); }
  // Memory for the twin of a packed matrix, where it has none and `room` tells that there is enough, in bytes. After a refusal nothing is asked for
  // until other weights or another mode come.
  void make(const Matrix& matrix, const std::function<int64_t()>& room);
  PrefillTwin mode() const { return mode_; }
  std::string reason() const;  // why matrices have no twin; empty where nothing was refused
  std::string takeNote();      // the reason, once

  // A twin that stays where it is while this lives; without one rows() is null.
  class Held {
   public:
    uint16_t* rows() const { return twin_ ? twin_->values.as<uint16_t>() : nullptr; }  // f16 [rows, cols]
    bool decoded() const { return twin_ && twin_->decoded; }
    void wasDecoded() const {
      if (twin_) twin_->decoded = true;
    }

   private:
    friend class Twins;
    struct Twin {
      DeviceBuffer values;
      bool decoded = false;
    };
    std::unique_lock<std::mutex> lock_;
    Twin* twin_ = nullptr;
  };
  Held hold(const void* data);  // by the codes of the matrix

 private:
  static constexpr const char* kOff = "compute.prefill_twin is off";
  bool giveBack();
  void refuse(std::string reason);

  Ledger& ledger_;
  mutable std::mutex mutex_;  // held by whoever queues work on a twin, or frees it
  std::map<const void*, Held::Twin> twins_;
  uint64_t weights_ = 0;
  PrefillTwin mode_ = PrefillTwin::off;  // written by the thread that computes alone
  bool closed_ = true;                   // nothing more is asked for
  std::string reason_ = kOff, note_;
  SpareMemory spare_;  // last: it is gone before what it gives back
};

}  // namespace winnow::cuda
