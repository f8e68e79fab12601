// SPDX-License-Identifier: GPL-3.0-or-later
// What a decoded token leaves out, as a backend is told.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/sparsify/profile.h"
#include "engine/sparsify/use.h"
#include "engine/weights/channel_major.h"

namespace winnow {

// Beside the matrices of a layer: the same values, laid out so that what is skipped is not read. Null where the matrix itself serves, or where nothing of
// it is skipped.
struct ChannelMajorLayer {
  std::shared_ptr<const ChannelMajor> q, k, v, o, gate, up, down;
};

// What a weight set has beside its matrices for a method.
struct SparseWeights {
  std::string method;
  std::vector<ChannelMajorLayer> layers;
  std::shared_ptr<const ActivationProfile> profile;  // null where the method does without, and in a plan
  int64_t bytes = 0;                                 // of all channels
};

static_assert(SparseUse::kNeurons == static_cast<size_t>(LinearInput::count));

struct SparseLayer {
  std::array<float, static_cast<size_t>(LinearInput::count)> input{-1, -1, -1, -1};  // entries of magnitude up to this are zero; negative: all take part
  float gate = -1;                                                                   // neurons whose activated gate is of magnitude up to this are zero
  bool chosen = false;                                                               // only these neurons take part:
  std::vector<int32_t> neurons;                                                      // ascending
};

struct SparseStep {
  std::vector<SparseLayer> layers;
  SparseUse* use = nullptr;  // never null in a step
  uint64_t serial = 0;       // another for every state of the layers of any step; never 0
};

// A backend that can leave things out.
class SparseBackend {
 public:
  virtual ~SparseBackend() = default;
  // Of the next run, in which each sequence has one token: what each leaves out, null for all of it. Empty: nobody leaves anything out.
  virtual void leaveOut(std::span<const SparseStep* const> sequences) = 0;
};

}  // namespace winnow
