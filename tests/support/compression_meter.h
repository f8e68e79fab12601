// SPDX-License-Identifier: GPL-3.0-or-later
// What compression costs a shared model on text that calibration did not see.
#pragma once
#include <fstream>

#include "engine/evaluate/perplexity.h"
#include "tests/support/engine.h"

namespace winnow::test {

constexpr const char* kSmallLlama = "models/llama2xs-280k-f32.gguf";

class CompressionMeter {
 public:
  CompressionMeter(const char* file, int windows, const char* tokens = "4096") : CompressionMeter(openEngine(file, 1), windows, tokens) {}
  CompressionMeter(std::shared_ptr<Engine> engine, int windows, const char* tokens = "4096") : engine_(std::move(engine)), windows_(windows), tokens_(tokens) {
    const std::string stories = readFile(sharedData("corpora/tinystories_val.txt"));
    text_ = stories.substr(0, 60000);
    calibration_ = (scratch() / "calibration.txt").string();
    std::ofstream(calibration_) << stories.substr(400000, 60000);
    baseline_ = makeSession(engine_, Config(), {.context = 128});
  }
  Config with(Settings settings) const {
    settings.emplace_back("calibration.text", calibration_.c_str());
    settings.emplace_back("calibration.tokens", tokens_);
    return configure(settings);
  }
  // Mean KL divergence from the unchanged model, nat.
  double operator()(const Settings& settings) const {
    PerplexityRequest request;
    request.context = 128;
    request.chunks = windows_;
    const auto session = makeSession(engine_, with(settings), {.context = 128});
    return value(measurePerplexity(*session, baseline_.get(), *engine_->tokenizer(), text_, request, {})).kld->mean;
  }
  const std::shared_ptr<Engine>& engine() const { return engine_; }

 private:
  std::shared_ptr<Engine> engine_;
  int windows_;         // of 128 tokens
  const char* tokens_;  // of calibration
  std::string text_, calibration_;
  std::unique_ptr<Session> baseline_;
};

}  // namespace winnow::test
