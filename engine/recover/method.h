// SPDX-License-Identifier: GPL-3.0-or-later
// A recovery gives the weights that pruning left other values, so that a matrix makes of the calibration text what it made of it before
// (pruning_sharing_attribution.md, J): closed forms, no training, and nothing to compute when the model runs but a bias. One is one file and one line in
// registry.cpp. Rows are independent; what pruning zeroed stays zero. With C the second moments of the inputs, a row w0 that became w loses
// (w - w0) C (w - w0)^T. All methods lower that plus damping * mean(diag C) * |what they add to w|^2, so none of them can raise it.
//
// A method with a constant gives every output one beside its weights, (w0 - w) mean(x): its mean error is gone whatever became of w (J1), and
// what is left is (w - w0) S (w - w0)^T with S the moments about the means, in whose place of C the others are handed those (J2, J3 with a mean). It is
// taken from the weights as they are stored in the end, in the bias of the layer (engine/weights/constants.h).
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/prune/method.h"
#include "engine/weights/method_input.h"

namespace winnow {

struct RecoveryInput {
  int cols = 0;
  MethodInput statistics;  // what the method asked for
  double damping = 0;      // share of the mean second moment that holds weights where pruning left them
  ThreadPool* pool = nullptr;  // null: on this thread alone
  int steps = 20;              // of ADMM; the paper's
};

class Recovery {
 public:
  virtual ~Recovery() = default;
  // `pruned` [count, cols] are the rows `dense` [count, cols] after pruning. Deterministic, thread-safe, no row depends on another.
  virtual void apply(const float* dense, float* pruned, int count) const = 0;
};

struct RecoveryMethod {
  std::string name, title, paper;
  InputNeeds needs;
  std::unique_ptr<Recovery> (*prepare)(const RecoveryInput& input);  // for all rows of a matrix; must not outlive the statistics. Null: weights stay as pruning left them
  bool refits = false;  // each weight has a value of its own: where whole inputs go, all rows are fitted at once (channel_refit.h)
  bool constant = false;  // every output gets one
  double penalty = 0;  // share of the mean second moment that its factor has on the diagonal beside the damping
};

std::span<const RecoveryMethod> recoveryMethods();
const RecoveryMethod* findRecoveryMethod(std::string_view name);

// A pruner whose rows are recovered.
std::unique_ptr<Pruner> recovered(std::unique_ptr<Pruner> pruner, std::unique_ptr<Recovery> recovery, int cols);

}  // namespace winnow
