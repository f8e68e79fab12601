// SPDX-License-Identifier: GPL-3.0-or-later
// Exact leave-one-out: one forward of the whole prompt and response for each source. Text is rendered without the source and
// tokenized anew: deleting it changes the merges at the seam.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/attribute/attribute.h"

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;

class LeaveOneOut {
 public:
  LeaveOneOut(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress)
      : session_(session), tokenizer_(tokenizer), request_(request), progress_(progress) {}

  Result<AttributeResult> run(const std::function<void(const AttributeResult&)>& onPartial) {
    const auto start = Clock::now();
    result_.method = "loo";
    result_.sources = splitSources(request_.context, request_.unit);
    if (result_.sources.empty()) return Error{ErrorCode::badInput, "the context is empty: there is nothing to attribute to.", "Give a context of at least one sentence."};
    if (const Status ready = response(); !ready) return ready.error();

    std::vector<float> base, nll;
    if (const Status done = score(request_.context, kWholeBatch, base); !done) return stoppedOr(done, start);
    result_.responseNll = base;
    result_.baseLogProb = logProb(base);
    if (const Status done = noise(); !done) return stoppedOr(done, start);
    for (size_t i = 0; i < result_.sources.size(); ++i) {
      progress_(static_cast<double>(i) / static_cast<double>(result_.sources.size()), "source " + std::to_string(i + 1) + " of " + std::to_string(result_.sources.size()));
      Source& source = result_.sources[i];
      if (const Status done = score(without(source), kWholeBatch, nll); !done) return stoppedOr(done, start);
      source.score = result_.baseLogProb - logProb(nll);
      source.perToken.resize(nll.size());
      for (size_t t = 0; t < nll.size(); ++t) source.perToken[t] = nll[t] - base[t];
      result_.ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
      if (onPartial) onPartial(result_);
    }
    progress_(1, "done");
    result_.complete = true;
    return result_;
  }

 private:
  static constexpr int kWholeBatch = 0;

  Result<AttributeResult> stoppedOr(const Status& status, Clock::time_point start) {
    if (status.error().code != ErrorCode::cancelled) return status.error();
    result_.ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    return result_;
  }

  static double logProb(const std::vector<float>& nll) {
    double sum = 0;
    for (float n : nll) sum -= n;
    return sum;
  }

  std::string without(const Source& source) const {
    std::string text = request_.context;
    text.erase(static_cast<size_t>(source.start), static_cast<size_t>(source.separatorEnd - source.start));
    return text;
  }
  std::vector<int32_t> prompt(const std::string& context) const { return tokenizer_.encode(context + "\n\n" + request_.question, true); }

  Status response() {
    if (request_.response) {
      // The response's own ids, as they stand after the prompt: the same for every ablation.
      result_.response = *request_.response;
      result_.responseTokens = tokenizer_.encode(*request_.response, false);
    } else {
      session_.reset();
      if (const Status fed = feed(prompt(request_.context), kWholeBatch); !fed) return fed;
      ++result_.forwards;
      Utf8Stream utf8;
      while (static_cast<int>(result_.responseTokens.size()) < request_.responseTokens && session_.position() < session_.context()) {
        if (progress_.stopped()) return Error{ErrorCode::cancelled, "cancelled while the answer was generated.", ""};
        const auto logits = session_.logits();
        const auto best = static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
        if (tokenizer_.isEnd(best)) break;
        result_.responseTokens.push_back(best);
        result_.response += utf8.push(tokenizer_.piece(best));
        if (const Status stepped = session_.step(best); !stepped) return stepped;
        ++result_.forwardTokens;
      }
      result_.response += utf8.finish();
    }
    if (result_.responseTokens.empty()) return Error{ErrorCode::badInput, "the response is empty: there is nothing to attribute.", "Give a response, or a question the model answers."};
    return Done{};
  }

  // Feeds in pieces of `batch` tokens (another chunking rounds differently: the noise floor).
  Status feed(const std::vector<int32_t>& ids, int batch, const Session::LogitsSink& sink = {}) {
    const int step = batch == kWholeBatch ? static_cast<int>(ids.size()) : batch;
    for (int at = 0; at < static_cast<int>(ids.size()); at += step) {
      const int count = std::min(step, static_cast<int>(ids.size()) - at);
      const auto shifted = [&](int first, int rows, const float* logits) { sink(at + first, rows, logits); };
      const Status fed = sink ? session_.prefill(std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(count)), quiet(), shifted)
                              : session_.prefill(std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(count)), quiet());
      if (!fed) return fed;
    }
    result_.forwardTokens += static_cast<int64_t>(ids.size());
    return Done{};
  }
  Progress quiet() const { return {{}, progress_.stop}; }

  // NLL of each response token after the prompt with this context.
  Status score(const std::string& context, int batch, std::vector<float>& nll) {
    std::vector<int32_t> ids = prompt(context);
    const int first = static_cast<int>(ids.size()) - 1;
    const auto& response = result_.responseTokens;
    if (first < 0) return Error{ErrorCode::badInput, "context and question give no tokens, and the model has no begin token.", "Give a question."};
    ids.insert(ids.end(), response.begin(), response.end() - 1);  // the last token is predicted, not fed
    nll.assign(response.size(), 0);
    session_.reset();
    const int vocab = session_.vocab();
    const Status fed = feed(ids, batch, [&](int position, int count, const float* logits) {
      const int skip = std::max(0, first - position);
      if (skip >= count) return;
      std::vector<cpu::TokenScore> scores(static_cast<size_t>(count - skip));
      const int row = position + skip - first;
      cpu::scoreLogits(session_.cpuContext(), logits + static_cast<int64_t>(skip) * vocab, vocab, vocab, response.data() + row, count - skip, scores.data());
      for (size_t i = 0; i < scores.size(); ++i) nll[static_cast<size_t>(row) + i] = static_cast<float>(scores[i].nll);
    });
    if (fed) ++result_.forwards;
    return fed;
  }

  Status noise() {
    std::vector<double> values{result_.baseLogProb};
    std::vector<float> nll;
    for (int batch : {48, 96, 160}) {
      if (const Status done = score(request_.context, batch, nll); !done) return done;
      values.push_back(logProb(nll));
    }
    double mean = 0, squares = 0;
    for (double v : values) mean += v / static_cast<double>(values.size());
    for (double v : values) squares += (v - mean) * (v - mean);
    result_.noiseFloor = 3 * std::sqrt(squares / static_cast<double>(values.size() - 1));
    return Done{};
  }

  Session& session_;
  const Tokenizer& tokenizer_;
  const AttributeRequest& request_;
  const Progress& progress_;
  AttributeResult result_;
};

}  // namespace

Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial) {
  if (request.method != "loo") return Error{ErrorCode::usage, "attribution method \"" + request.method + "\" is not in this build; it has loo.", ""};
  return LeaveOneOut(session, tokenizer, request, progress).run(onPartial);
}

}  // namespace winnow
