// SPDX-License-Identifier: GPL-3.0-or-later
// The activation sparsity of one session: thresholds and chosen neurons at the present setting, and what they made of the tokens decoded since.
#pragma once
#include <memory>
#include <string>

#include "engine/knobs/knobs.h"
#include "engine/sparsify/method.h"
#include "engine/sparsify/step.h"
#include "engine/weights/store.h"

namespace winnow {

class SessionSparsity {
 public:
  static constexpr int64_t kShortestPrompt = 16;  // tokens: fewer say too little about the neurons

  // `config` is what runs. Thresholds are read off what is prepared; nothing is measured.
  void configure(const ModelConfig& model, const WeightSet& weights, const Config& config, Ledger& ledger);
  PromptNeurons* prompt() const { return prompt_.get(); }  // that a prompt has to be shown; null where the method goes without
  // Of the next token; null where it is computed whole. `why` is told once after a change or a prompt, if that is not what was asked for.
  const SparseStep* step(std::string* why);
  void restart();  // the cache is empty
  // A prompt begins beside the one that was seen, which may come back.
  std::unique_ptr<PromptNeurons> exchange(std::unique_ptr<PromptNeurons> other);
  std::unique_ptr<PromptNeurons> fresh(const ModelConfig& model, Ledger& ledger) const;
  const SparseUse& use() const { return use_; }
  int64_t bytesSkipped() const { return use_.steps > 0 ? use_.bytes / use_.steps : 0; }  // of a token, on average

 private:
  void readThresholds();
  void chooseNeurons();
  void forget();

  const ActivationMethod* method_ = nullptr;
  double sparsity_ = 0;
  std::shared_ptr<const SparseWeights> weights_;
  std::vector<Channels> left_;  // [layers] neurons of those weights
  std::unique_ptr<PromptNeurons> prompt_;
  int64_t chosenAt_ = -1;  // tokens of the prompt when neurons were chosen
  bool told_ = false;
  SparseStep step_;
  SparseUse use_;
};

}  // namespace winnow
