// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <utility>

#include "engine/recover/methods.h"

namespace winnow {
namespace {

class RecoveredPruner final : public Pruner {
 public:
  RecoveredPruner(std::unique_ptr<Pruner> pruner, std::unique_ptr<Recovery> recovery, int cols)
      : pruner_(std::move(pruner)), recovery_(std::move(recovery)), cols_(static_cast<size_t>(cols)) {}
  void apply(float* rows, int firstRow, int count) const override {
    const std::vector<float> dense(rows, rows + static_cast<size_t>(count) * cols_);
    pruner_->apply(rows, firstRow, count);
    recovery_->apply(dense.data(), rows, count);
  }

 private:
  std::unique_ptr<Pruner> pruner_;
  std::unique_ptr<Recovery> recovery_;
  size_t cols_;
};

}  // namespace

std::span<const RecoveryMethod> recoveryMethods() {
  static const RecoveryMethod methods[] = {
      {.name = "bias", .title = "Bias: a constant per output", .paper = "An et al. 2024 (FLAP, arXiv 2312.11983): its bias compensation", .needs = {.means = true}, .prepare = nullptr, .constant = true},
      {"scale", "Scale: one factor per row", "least squares, one unknown per output", {.moments = true}, prepareScaleRecovery},
      {.name = "affine", .title = "Affine: a factor and a constant per row", .paper = "least squares, two unknowns per output", .needs = {.moments = true, .means = true, .centred = true},
       .prepare = prepareScaleRecovery, .constant = true},
      {"least-squares", "Least squares: the weights that stay, fitted anew", "LeCun et al. 1990, Hassibi and Stork 1993: the exact solution for a given mask", {.moments = true}, prepareLeastSquaresRecovery, true},
      {.name = "regression", .title = "Regression: least squares with a constant", .paper = "least squares of inputs and outputs about their means", .needs = {.moments = true, .means = true, .centred = true},
       .prepare = prepareLeastSquaresRecovery, .refits = true, .constant = true},
      {"admm", "ADMM: least squares by steps that rows share", "Boža 2024 (arXiv 2401.02938), section 3", {.moments = true, .factor = true}, prepareAdmmRecovery, true, false, 0.1},
  };
  return methods;
}

const RecoveryMethod* findRecoveryMethod(std::string_view name) {
  for (const RecoveryMethod& method : recoveryMethods())
    if (method.name == name) return &method;
  return nullptr;
}

std::unique_ptr<Pruner> recovered(std::unique_ptr<Pruner> pruner, std::unique_ptr<Recovery> recovery, int cols) {
  return std::make_unique<RecoveredPruner>(std::move(pruner), std::move(recovery), cols);
}

std::vector<double> lostMoments(const SecondMoments& moments, const float* dense, const float* pruned) {
  const auto cols = static_cast<size_t>(moments.cols());
  std::vector<double> lost(cols), out(cols);
  for (size_t c = 0; c < cols; ++c) lost[c] = static_cast<double>(dense[c]) - static_cast<double>(pruned[c]);
  moments.times(lost.data(), out.data());
  return out;
}

}  // namespace winnow
