// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution with a model: prompt, response, teacher-forced scores, noise floor.
#include "engine/attribute/attribute.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "engine/cpu/ops.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

class Attribution {
 public:
  Attribution(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress)
      : session_(session), tokenizer_(tokenizer), request_(request) {
    inner_.stop = progress.stop;
  }

  Result<AttributeResult> run(const Progress& progress, const std::function<void(const AttributeResult&)>& onPartial) {
    const auto began = std::chrono::steady_clock::now();
    result_.method = request_.method;
    result_.sources = splitSources(request_.context, request_.unit);
    if (Status checked = check(); !checked) return checked.error();
    progress(0.0, "response");
    if (Status prepared = prepareResponse(); !prepared) return prepared.error();
    const auto finish = [&] {
      result_.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
      return result_;
    };
    if (inner_.stopped()) return finish();
    if (Status measured = measureNoise(); !measured) return measured.error();
    const auto partial = [&](const AttributeResult&) {
      if (onPartial) onPartial(finish());
    };
    const ContextScorer score = [&](const std::string& context) { return scoreUnder(context, 0); };
    if (Status done = leaveOneOut(request_.context, score, result_, progress, partial); !done) return done.error();
    session_.reset();
    if (result_.complete) progress(1.0, "done");
    return finish();
  }

 private:
  Status check() const {
    if (request_.method != "loo")
      return Error{ErrorCode::usage, "Attribution method " + request_.method + " is not available; loo is.", ""};
    if (result_.sources.empty()) return Error{ErrorCode::badInput, "The context is empty: there is nothing to attribute to.", "Give a context of at least one sentence."};
    const size_t prompt = promptTokens(request_.context).size();
    if (prompt >= static_cast<size_t>(session_.context()))
      return Error{ErrorCode::badInput, "Context and question have " + std::to_string(prompt) + " tokens; the model's context holds " +
                                            std::to_string(session_.context()) + ", response included.", "Shorten the context."};
    return Done{};
  }

  std::vector<int32_t> promptTokens(const std::string& context) const { return tokenizer_.encode(attributionPrompt(context, request_.question), true); }

  Status prepareResponse() {
    const Status ready = request_.response ? takeResponse() : generateResponse();
    if (!ready) return ready;
    const size_t total = promptTokens(request_.context).size() + result_.responseTokens.size();
    if (result_.responseTokens.empty())
      return inner_.stopped() ? Status(Done{})
                              : Status(Error{ErrorCode::badInput, "The response is empty: the model ended at once, or the text given has no tokens.", "Give a response."});
    if (total > static_cast<size_t>(session_.context()) + 1)
      return Error{ErrorCode::badInput, "Context, question and response have " + std::to_string(total) + " tokens; the model's context holds " +
                                            std::to_string(session_.context()) + ".", "Shorten the context or the response."};
    return Done{};
  }

  // The tokens of the response as they follow the prompt: those of the joined text where the prompt's own come out unchanged, else
  // those the response has after a line break.
  Status takeResponse() {
    result_.response = *request_.response;
    const std::string prompt = attributionPrompt(request_.context, request_.question);
    for (const std::string& before : {prompt, std::string("\n")}) {
      const auto left = tokenizer_.encode(before, false), joined = tokenizer_.encode(before + result_.response, false);
      if (left.size() > joined.size() || !std::equal(left.begin(), left.end(), joined.begin())) continue;
      result_.responseTokens.assign(joined.begin() + static_cast<std::ptrdiff_t>(left.size()), joined.end());
      return Done{};
    }
    result_.responseTokens = tokenizer_.encode(result_.response, false);
    return Done{};
  }

  Status generateResponse() {
    session_.reset();
    const auto prompt = promptTokens(request_.context);
    const Status fed = session_.prefill(prompt, inner_);
    if (!fed) return fed.error().code == ErrorCode::cancelled ? Status(Done{}) : fed;
    const int room = session_.context() - static_cast<int>(prompt.size());
    const int count = std::min(request_.responseTokens, room);
    Utf8Stream stream;
    for (int i = 0; i < count && !inner_.stopped(); ++i) {
      const int32_t token = sample(session_.logits(), session_.tokens(), SamplerSettings{}, static_cast<uint64_t>(session_.position()));
      result_.responseTokens.push_back(token);  // the end token is part of what is scored
      ++result_.generatedTokens;
      if (tokenizer_.isEnd(token)) break;
      result_.response += stream.push(tokenizer_.piece(token));
      if (i + 1 == count) break;
      if (Status stepped = session_.step(token); !stepped) return stepped;
    }
    result_.response += stream.finish();
    return Done{};
  }

  // One forward from an empty cache, prompt and response together. piece: tokens per prefill call, 0 = all at once.
  Result<ResponseScore> scoreUnder(const std::string& context, size_t piece) {
    std::vector<int32_t> tokens = promptTokens(context);
    const size_t prompt = tokens.size();
    if (prompt == 0) return Error{ErrorCode::badInput, "The prompt has no tokens.", "Give a question."};
    tokens.insert(tokens.end(), result_.responseTokens.begin(), result_.responseTokens.end() - 1);
    session_.reset();
    ResponseScore out;
    out.tokensFed = static_cast<int64_t>(tokens.size());
    const std::span<const int32_t> all(tokens);
    const auto feed = [&](size_t from, size_t to, const Session::LogitsSink& sink) -> Status {
      for (size_t at = from; at < to;) {
        const size_t count = std::min(to - at, piece == 0 ? to - at : piece);
        if (Status fed = session_.prefill(all.subspan(at, count), inner_, sink); !fed) return fed;
        at += count;
      }
      return Done{};
    };
    // The last prompt token's logits score the first response token.
    if (Status fed = feed(0, prompt - 1, {}); !fed) return fed.error();
    std::vector<cpu::TokenScore> scores;
    const Session::LogitsSink sink = [&](int, int count, const float* logits) {
      const int vocab = session_.vocab();
      scores.resize(static_cast<size_t>(count));
      const int32_t* targets = result_.responseTokens.data() + out.logProbs.size();
      cpu::scoreLogits(session_.cpuContext(), logits, vocab, vocab, targets, count, scores.data());
      for (const cpu::TokenScore& score : scores) out.logProbs.push_back(-score.nll);
    };
    if (Status fed = feed(prompt - 1, tokens.size(), sink); !fed) return fed.error();
    return out;
  }

  // Three standard deviations of the whole context's score under four ways of cutting the prompt into batches.
  Status measureNoise() {
    std::vector<double> values;
    for (const size_t piece : {size_t{0}, size_t{64}, size_t{17}, size_t{5}}) {
      const auto scored = scoreUnder(request_.context, piece);
      if (!scored) return scored.error().code == ErrorCode::cancelled ? Status(Done{}) : Status(scored.error());
      double total = 0;
      for (const double logProb : scored->logProbs) total += logProb;
      values.push_back(total);
      ++result_.noiseForwards;
      result_.noiseForwardTokens += scored->tokensFed;
    }
    double mean = 0, squared = 0;
    for (const double value : values) mean += value / static_cast<double>(values.size());
    for (const double value : values) squared += (value - mean) * (value - mean);
    result_.noiseFloor = 3 * std::sqrt(squared / static_cast<double>(values.size() - 1));
    return Done{};
  }

  Session& session_;
  const Tokenizer& tokenizer_;
  const AttributeRequest& request_;
  Progress inner_;
  AttributeResult result_;
};

}  // namespace

std::string attributionPrompt(std::string_view context, std::string_view question) {
  return std::string(context) + "\n\n" + std::string(question);
}

Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial) {
  return Attribution(session, tokenizer, request, progress).run(progress, onPartial);
}

}  // namespace winnow
