// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/windows.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>

namespace winnow {
namespace {

Error tooShort(int64_t tokens, int64_t needed, const PerplexityRequest& request) {
  return {ErrorCode::badInput,
          "The text has " + std::to_string(tokens) + " tokens; " +
              (request.depths.empty() ? std::string(perplexityModeName(request.mode)) + " at context " + std::to_string(request.context)
                                      : std::to_string(request.scored) + " predictions at a depth of " + std::to_string(request.depths.back())) +
              " needs at least " + std::to_string(needed) + ".",
          "Take a longer text or a smaller context."};
}

std::vector<EvaluationWindow> llamaWindows(const PerplexityRequest& request, int64_t tokens, bool bos) {
  std::vector<EvaluationWindow> windows;
  const int n = request.context;
  for (int64_t begin = 0; begin + n <= tokens; begin += n)
    windows.push_back({begin, n, n / 2, bos, static_cast<double>(n - n / 2 - 1)});
  return windows;
}

// llama.cpp overwrites the first token after it was decoded here, so the overwrite has no effect: the tokens stay as they are.
std::vector<EvaluationWindow> stridedWindows(const PerplexityRequest& request, int64_t tokens) {
  std::vector<EvaluationWindow> windows;
  const int stride = effectiveStride(request), n = windowTokens(request);
  const int64_t count = (tokens - n + stride - 1) / stride;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * stride;
    if (begin + n > tokens) break;
    windows.push_back({begin, n, n - stride - 1, false, static_cast<double>(stride)});
  }
  return windows;
}

std::vector<EvaluationWindow> huggingFaceWindows(const PerplexityRequest& request, int64_t tokens) {
  std::vector<EvaluationWindow> windows;
  const int stride = effectiveStride(request);
  int64_t scoredTo = 0;  // targets below are counted
  for (int64_t begin = 0; begin < tokens; begin += stride) {
    const int64_t end = std::min<int64_t>(begin + request.context, tokens);
    const int64_t fresh = end - scoredTo;
    EvaluationWindow window;
    window.begin = begin;
    window.length = static_cast<int>(end - begin);
    // The first token of a window is never a target, so only the first window loses one by the shift.
    window.firstScored = static_cast<int>(std::max<int64_t>(scoredTo - begin - 1, 0));
    window.weight = request.mode == PerplexityMode::hfDoc ? static_cast<double>(fresh - 1) : static_cast<double>(window.scored());
    scoredTo = end;
    if (window.scored() > 0) windows.push_back(window);
    if (end == tokens) break;
  }
  return windows;
}

// All depths of one place before those of the next, each with the same targets: they end where the deepest ends.
std::vector<EvaluationWindow> depthWindows(const PerplexityRequest& request, int64_t tokens, bool bos) {
  std::vector<EvaluationWindow> windows;
  const int deepest = request.depths.back(), length = windowTokens(request);
  const int64_t places = request.chunks > 0 ? std::min<int64_t>(request.chunks, tokens / length) : tokens / length;
  for (int64_t place = 0; place < places; ++place)
    for (const int depth : request.depths)
      windows.push_back({place * length + deepest - depth, depth + request.scored + 1, depth, bos, static_cast<double>(request.scored), depth});
  return windows;
}

Status checkDepths(const PerplexityRequest& request) {
  const bool ascending = std::ranges::is_sorted(request.depths, std::ranges::less_equal());  // and none twice
  if (!ascending || request.depths.front() < 1 || request.depths.back() > std::numeric_limits<int>::max() / 2)
    return Error{ErrorCode::usage, "The depths are not tokens of context in ascending order, each once.", "Give them as 512,2048,8192."};
  if (request.scored < 1 || request.scored > 1 << 20)
    return Error{ErrorCode::usage, std::to_string(request.scored) + " predictions cannot be scored at each depth.", "Use 1 to 1048576."};
  return Done{};
}

Status checkRequest(const PerplexityRequest& request) {
  if (!request.depths.empty()) return checkDepths(request);
  if (request.context < 4)
    return Error{ErrorCode::usage, "A context of " + std::to_string(request.context) + " tokens is too small to score.", "Use at least 4."};
  const int stride = effectiveStride(request);
  const bool hf = request.mode == PerplexityMode::hfDoc || request.mode == PerplexityMode::hfExact;
  if (request.stride < 0 || (request.mode == PerplexityMode::llamaStride && stride >= windowTokens(request) - 1) ||
      (hf && stride > request.context))
    return Error{ErrorCode::usage, "A stride of " + std::to_string(request.stride) + " does not fit a context of " +
                                       std::to_string(request.context) + ".", "Use a stride from 1 to the context."};
  return Done{};
}

}  // namespace

int effectiveStride(const PerplexityRequest& request) {
  if (request.stride != 0) return request.stride;
  return request.mode == PerplexityMode::llamaStride ? std::max(1, request.context / 2) : std::min(512, request.context);
}

int windowTokens(const PerplexityRequest& request) {
  if (!request.depths.empty()) return request.depths.back() + request.scored + 1;
  return request.mode == PerplexityMode::llamaStride ? request.context + effectiveStride(request) / 2 : request.context;
}

Result<std::vector<EvaluationWindow>> evaluationWindows(const PerplexityRequest& request, int64_t tokens, bool vocabularyAddsBos) {
  if (Status checked = checkRequest(request); !checked) return checked.error();
  std::vector<EvaluationWindow> windows;
  int64_t needed = 2;
  if (!request.depths.empty()) {
    windows = depthWindows(request, tokens, vocabularyAddsBos);
    if (windows.empty()) return tooShort(tokens, windowTokens(request), request);
    return windows;
  }
  switch (request.mode) {
    case PerplexityMode::llama:
      needed = 2 * int64_t{request.context};
      windows = llamaWindows(request, tokens, vocabularyAddsBos);
      break;
    case PerplexityMode::llamaStride:
      needed = 2 * int64_t{windowTokens(request)};
      if (tokens >= needed) windows = stridedWindows(request, tokens);
      break;
    case PerplexityMode::hfDoc:
    case PerplexityMode::hfExact:
      needed = request.mode == PerplexityMode::hfDoc ? 3 : 2;
      windows = huggingFaceWindows(request, tokens);
      break;
  }
  if (tokens < needed || windows.empty()) return tooShort(tokens, needed, request);
  if (request.chunks > 0 && windows.size() > static_cast<size_t>(request.chunks)) windows.resize(static_cast<size_t>(request.chunks));
  return windows;
}

}  // namespace winnow
