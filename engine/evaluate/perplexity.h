// SPDX-License-Identifier: GPL-3.0-or-later
// Perplexity in four published protocols, bits per byte, and KL divergence against a baseline in the same process.
// Sources: engines.md C.2 (llama.cpp), C.3 (KL divergence), C.4 (Hugging Face).
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

enum class PerplexityMode : uint8_t { llama, llamaStride, hfDoc, hfExact };
std::string_view perplexityModeName(PerplexityMode mode);  // llama, llama-stride, hf-doc, hf-exact
std::optional<PerplexityMode> findPerplexityMode(std::string_view name);

struct PerplexityRequest {
  PerplexityMode mode = PerplexityMode::llama;
  int context = 512;
  int chunks = 0;  // 0 = all
  // llama-stride, hf-*: 0 = context / 2 (llama-stride), 512 capped at context (hf). As llama.cpp does it, llama-stride's windows are
  // context + stride / 2 tokens long: the session's context must hold windowTokens(request).
  int stride = 0;
  // First half of each window is prefill, the policy fires at its end, the second half is fed token by token and scored
  // (the baseline likewise). nullopt = on exactly when a cache method is on.
  std::optional<bool> stepwise;
  // Not empty: instead of mode, context and stride, the same `scored` predictions are made from the last d tokens before them, for each d
  // here (ascending), `chunks` times along the text; stepwise unless that is false.
  std::vector<int> depths;
  int scored = 128;
};

int effectiveStride(const PerplexityRequest& request);
int windowTokens(const PerplexityRequest& request);  // context a session needs
bool scoresStepwise(const PerplexityRequest& request, const Config& effective);
// "llama c=512", "depths 512,2048 n=128 chunks=4 stepwise": what has to be equal for two numbers to be compared.
std::string perplexityProtocol(const PerplexityRequest& request, bool stepwise);

// exp(nllSum / count) over windows is the protocol's perplexity in every mode. (hf-doc weights each window after the first one
// too small; its sums carry that weight.)
struct PerplexityWindow {
  int index = 0;
  int64_t firstToken = 0;
  int depth = 0;          // of PerplexityRequest::depths, else 0
  int count = 0;          // predictions scored
  double nllSum = 0;
  double nllSquaredSum = 0;
  double kldSum = 0;      // 0 without a baseline
  int sameTop = 0;
};

struct DivergenceSummary {
  double mean = 0, median = 0, p99 = 0, max = 0;
  double top1 = 0;            // share of predictions with the same most likely token
  double meanStderr = 0;
  double p90 = 0, p95 = 0, p999 = 0;
  double rmsDeltaP = 0;       // of the correct token's probability
  double meanLnRatio = 0;     // ln ppl - ln ppl(base)
};

// One place for the sums of windows, so that running results, stored windows and the final number agree.
struct WindowSums {
  double nll = 0, nllSquared = 0, kld = 0;
  int64_t count = 0, sameTop = 0;
  void add(const PerplexityWindow& window);
  double perplexity() const;
  double stderror() const;  // perplexity * sqrt((E[nll^2] - E[nll]^2) / (count - 1)), as llama.cpp prints it
};

// What the predictions of one depth lost and cost. The baseline's are 0 without one; times are 0 where nothing was fed token by token.
struct DepthSummary {
  struct Cost {
    double stepMs = 0;    // mean time of a token that was fed alone
    int64_t kvBytes = 0;  // cache at the end of a window, the largest
  };
  int depth = 0;          // tokens before the predictions
  WindowSums sums, baseSums;
  Cost cost, baseCost;
};

struct PerplexityResult {
  std::string protocol;  // perplexityProtocol(), stored with the number
  double perplexity = 0, stderror = 0;
  double nllSum = 0;
  int64_t count = 0;
  int chunks = 0;
  double bitsPerByte = 0;
  double seconds = 0;
  std::vector<PerplexityWindow> windows;
  std::vector<float> nllByPosition;  // mean NLL of each scored position within the window
  std::vector<DepthSummary> depths;  // of PerplexityRequest::depths
  std::optional<DivergenceSummary> kld;
  double basePerplexity = 0;  // with a baseline
};

double quantileOf(std::vector<float> values, double fraction);  // linear interpolation at fraction * (n - 1)

// `session` under its configuration; `baseline` (same vocabulary) null for none. Errors: text shorter than one window
// (badInput, says how many tokens there are and how many are needed), cancelled (with the windows so far lost).
// onWindow is called after each window with the running result, so that partial results can be shown and stored.
Result<PerplexityResult> measurePerplexity(Session& session, Session* baseline, const Tokenizer& tokenizer, const std::string& text,
                                           const PerplexityRequest& request, const Progress& progress,
                                           const std::function<void(const PerplexityWindow&)>& onWindow = {});

}  // namespace winnow
