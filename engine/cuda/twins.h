// SPDX-License-Identifier: GPL-3.0-or-later
// Twins of weights (compute.prefill_twin): what a long prompt has packed ones decoded to in 16 bits, or any encoded to in FP8 (products.h), kept for the
// next prompts. A twin changes no bit of a product. It is spare memory: whoever finds the device full takes it back, from any thread, and slices
// are made again.
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

  // From now on for the weights of this serial (WeightSet), in this mode, for prompts in FP8 or not. Twins of other weights, or of another form, are let go.
  void follow(uint64_t weights, PrefillTwin mode, bool fp8);
  void follow(uint64_t weights, PrefillTwin mode) { follow(weights, mode, fp8_); }
  void follow(uint64_t weights) { follow(weights, mode_, fp8_); }
  // Memory for the twin of a matrix, where it has none and `room` tells that there is enough, in bytes. After a refusal nothing is asked for until
  // other weights, another mode or another form come.
  void make(const Matrix& matrix, size_t bytes, const std::function<int64_t()>& room);
  PrefillTwin mode() const { return mode_; }
  std::string reason() const;  // why matrices have no twin; empty where nothing was refused
  std::string takeNote();      // the reason, once

  // A twin that stays where it is while this lives; without one values() is null.
  class Held {
   public:
    void* values() const { return as<void>(); }
    template <class T>
    T* as() const {
      return twin_ ? twin_->values.as<T>() : nullptr;  // f16 [rows, cols], or E4M3 [rows, cols] and then f32 [rows]
    }
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
  PrefillTwin mode_ = PrefillTwin::off;  // this and fp8_ are written by the thread that computes alone
  bool fp8_ = false;
  bool closed_ = true;                   // nothing more is asked for
  std::string reason_ = kOff, note_;
  SpareMemory spare_;  // last: it is gone before what it gives back
};

}  // namespace winnow::cuda
