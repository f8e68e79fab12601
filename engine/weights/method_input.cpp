// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/method_input.h"

#include "engine/core/check.h"

namespace winnow {

Result<MethodInput> InputPreparer::prepare(int layer, LinearInput input, const InputNeeds& needs, const FactorOptions& options) {
  MethodInput out;
  if (!needs.any()) return out;
  CHECK(calibration_, layer, static_cast<int>(input));
  if (layer != layer_ || input != input_) {
    layer_ = layer;
    input_ = input;
    norms_ = calibration_->columnNorms(layer, input);
    factors_.clear();
  }
  out.tokens = calibration_->tokens();
  if (needs.norms) out.columnNorms = norms_;
  if (needs.gram()) out.moments = &calibration_->moments(layer, input);
  if (!needs.factor) return out;
  for (const Factor& known : factors_)
    if (known.options == options) out.factor = known.factor.get();
  if (out.factor) return out;
  auto made = std::make_unique<InverseFactor>();
  switch (made->make(calibration_->ledger(), *out.moments, options, pool_, progress_)) {
    case InverseFactor::Outcome::done: break;
    case InverseFactor::Outcome::cancelled: return Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
    case InverseFactor::Outcome::notPositive:
      return Error{ErrorCode::failed, model_.path() + ": the inputs of layer " + std::to_string(layer) + " (" + std::string(linearInputName(input)) +
                                          ") over the calibration text can't be factored, even damped.",
                   "Choose a longer calibration text."};
  }
  factors_.push_back({options, std::move(made)});
  out.factor = factors_.back().factor.get();
  return out;
}

}  // namespace winnow
