// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/sparsity.h"

#include <atomic>
#include <utility>

namespace winnow {
namespace {

uint64_t nextSerial() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

void SessionSparsity::configure(const ModelConfig& model, const WeightSet& weights, const Config& config, Ledger& ledger) {
  const ActivationMethod* method = weights.sparse ? findActivationMethod(weights.sparse->method) : nullptr;
  const double sparsity = method ? config.real("activation.sparsity") : 0;
  if (method == method_ && sparsity == sparsity_ && weights.sparse == weights_) return;
  left_ = weights.channels;
  if (method != method_ || (prompt_ && !prompt_->sees(left_))) {
    method_ = method;
    prompt_ = fresh(model, ledger);
  }
  sparsity_ = sparsity;
  weights_ = weights.sparse;
  step_.layers.assign(static_cast<size_t>(model.layers), {});
  step_.use = &use_;
  step_.serial = nextSerial();
  forget();
  if (method_ && sparsity_ > 0 && !ledger.planning()) readThresholds();
}

std::unique_ptr<PromptNeurons> SessionSparsity::fresh(const ModelConfig& model, Ledger& ledger) const {
  if (!method_ || method_->place != SparsePlace::prompt) return nullptr;
  return std::make_unique<PromptNeurons>(model, left_, ledger, method_->unitTokens);
}

void SessionSparsity::readThresholds() {
  if (method_->place == SparsePlace::prompt) return;
  constexpr size_t kDown = static_cast<size_t>(LinearInput::down);
  for (size_t layer = 0; layer < step_.layers.size(); ++layer) {
    SparseLayer& sparse = step_.layers[layer];
    const auto at = [&](ActivationSite site) { return method_->threshold(*weights_->profile, static_cast<int>(layer), site, sparsity_); };
    if (method_->place == SparsePlace::gate) {
      sparse.gate = at(ActivationSite::gate);
      sparse.input[kDown] = 0;  // those that take part
    } else {
      for (size_t input = 0; input < sparse.input.size(); ++input) sparse.input[input] = at(static_cast<ActivationSite>(input));
    }
  }
}

void SessionSparsity::chooseNeurons() {
  chosenAt_ = prompt_->tokens();
  step_.serial = nextSerial();
  for (size_t layer = 0; layer < step_.layers.size(); ++layer) {
    SparseLayer& sparse = step_.layers[layer];
    sparse.chosen = true;
    sparse.neurons = method_->neurons(*prompt_, weights_->profile.get(), static_cast<int>(layer), sparsity_);
    sparse.input[static_cast<size_t>(LinearInput::down)] = 0;
  }
}

const SparseStep* SessionSparsity::step(std::string* why) {
  why->clear();
  if (!method_ || sparsity_ <= 0) return nullptr;
  if (method_->place == SparsePlace::prompt) {
    const int64_t tokens = prompt_->tokens();
    if (tokens < kShortestPrompt) {
      if (!std::exchange(told_, true))
        *why = "Tokens are computed whole: " + method_->name + " chooses neurons by the prompt, of which " + (tokens == 0 ? std::string("none") : "only " + std::to_string(tokens)) +
               (tokens == 1 ? " token was" : " tokens were") + " seen since it was chosen; at least " + std::to_string(kShortestPrompt) +
               " are needed. Recomputing the cache shows it the text so far.";
      return nullptr;
    }
    if (chosenAt_ != tokens) chooseNeurons();
  }
  ++use_.steps;
  return &step_;
}

void SessionSparsity::forget() {
  chosenAt_ = -1;
  told_ = false;
  use_ = {};
  use_.layers.resize(step_.layers.size());
}

void SessionSparsity::restart() {
  if (prompt_) prompt_->clear();
  forget();
}

std::unique_ptr<PromptNeurons> SessionSparsity::exchange(std::unique_ptr<PromptNeurons> other) {
  chosenAt_ = -1;
  std::swap(prompt_, other);
  return other;
}

}  // namespace winnow
