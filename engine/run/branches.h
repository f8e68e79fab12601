// SPDX-License-Identifier: GPL-3.0-or-later
// Several continuations of one sequence, fed together: their rows go through every matrix in one product, and the keys and values of the
// beginning they share are read in place. On the CPU each gets bit for bit the logits it would get alone.
#pragma once
#include "engine/run/engine.h"

namespace winnow {

struct Branch {
  int64_t from = 0;                      // tokens of the session it begins with
  std::span<const int32_t> tokens{};     // fed after them
  size_t logitsFrom = 0;                 // the first of these whose logits are given
};

// Where a cache evicts, was written with other weights or is being watched, each has to be fed alone.
bool canBranch(const Session& session);

// The session stays as it is. Logits come in slices of consecutive tokens of one branch, counted from its first. Cancelled within one
// micro-batch. Memory: the pages of as many branches as fill a micro-batch.
using BranchSink = std::function<Status(size_t branch, int first, int count, const float* logits /* [count, vocab] */)>;
Status prefillBranches(Session& session, std::span<const Branch> branches, const Progress& progress, const BranchSink& sink);

}  // namespace winnow
