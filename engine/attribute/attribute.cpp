// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution with a model: checks, the response, the method, and what a person should know about the scores.
#include "engine/attribute/attribute.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "engine/attribute/model_scorer.h"
#include "engine/run/sampler.h"

namespace winnow {
namespace {

using Clock = std::chrono::steady_clock;
double msSince(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

class Attribution {
 public:
  Attribution(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress, const ProxyModel* proxy)
      : session_(session), tokenizer_(tokenizer), request_(request), progress_(progress), proxy_(proxy) {
    inner_.stop = progress.stop;
  }

  Result<AttributeResult> run(const std::function<void(const AttributeResult&)>& onPartial) {
    const AttributionMethod* method = findAttributionMethod(request_.method);
    if (!method) return unknownAttributionMethod(request_.method);
    if (proxy_ && !method->usesProxy)
      return Error{ErrorCode::usage, "The attribution method " + method->name + " uses no proxy.", "Leave the proxy out, or choose attribot."};
    result_.method = request_.method;
    result_.unit = method->unit.value_or(request_.unit);
    result_.sources = result_.unit == SourceUnit::window ? splitWindows(request_.context, tokenizer_, request_.windowTokens) : splitSources(request_.context, result_.unit);
    if (result_.sources.empty()) return withoutSources();
    if (Status checked = check(); !checked) return checked.error();
    progress_(0.0, "response");
    if (Status prepared = prepareResponse(); !prepared) return prepared.error();
    if (inner_.stopped()) return result_;
    noteCircumstances();
    ModelScorer target(session_, tokenizer_, request_.question, result_.responseTokens, progress_.stop);
    std::optional<ModelScorer> proxy;
    if (proxy_) {
      auto response = proxyResponse();
      if (!response) return response.error();
      proxy.emplace(proxy_->session, proxy_->tokenizer, request_.question, std::move(*response), progress_.stop);
    }
    const auto began = Clock::now();
    const auto settle = [&] {
      result_.ms = msSince(began) - result_.noiseMs;
      result_.parameterTokens = static_cast<double>(result_.forwardTokens - result_.proxyForwardTokens) * static_cast<double>(session_.parameters());
      if (!proxy_) return;
      result_.parameterTokens += static_cast<double>(result_.proxyForwardTokens) * static_cast<double>(proxy_->session.parameters());
      // Tokens of another vocabulary are not those of the response.
      const size_t count = result_.responseTokens.size();
      if (result_.responseNll.size() != count) result_.responseNll.clear();
      for (Source& source : result_.sources)
        if (source.perToken.size() != count) source.perToken.clear();
    };
    AttributionTask task{request_, target, result_, proxy ? &*proxy : nullptr, progress_};
    task.onPartial = [&](const AttributeResult&) {
      settle();
      if (onPartial) onPartial(result_);
    };
    const Status done = method->run(task);
    settle();
    session_.reset();
    if (proxy_) proxy_->session.reset();
    if (!done && done.error().code != ErrorCode::cancelled) return done.error();
    result_.complete = done.ok();
    if (result_.complete) progress_(1.0, "done");
    return result_;
  }

 private:
  AttributeResult withoutSources() {
    result_.response = request_.response.value_or("");
    result_.notes.push_back("The context is empty: there is nothing to attribute to.");
    result_.complete = true;
    return result_;
  }

  Status check() const {
    const size_t prompt = promptTokens().size();
    if (prompt >= static_cast<size_t>(session_.context()))
      return Error{ErrorCode::badInput, "Context and question have " + std::to_string(prompt) + " tokens; the model's context holds " +
                                            std::to_string(session_.context()) + ", response included.", "Shorten the context."};
    return Done{};
  }

  std::string prompt() const { return attributionPrompt(request_.context, request_.question); }
  std::vector<int32_t> promptTokens() const { return tokenizer_.encode(prompt(), true); }

  Status prepareResponse() {
    if (request_.response) {
      result_.response = *request_.response;
      result_.responseTokens = responseTokens(tokenizer_, prompt(), result_.response);
    } else if (Status generated = generateResponse(); !generated) {
      return generated;
    }
    const size_t total = promptTokens().size() + result_.responseTokens.size();
    if (result_.responseTokens.empty())
      return inner_.stopped() ? Status(Done{})
                              : Status(Error{ErrorCode::badInput, "The response is empty: the model ended at once, or the text given has no tokens.", "Give a response."});
    if (total > static_cast<size_t>(session_.context()) + 1)
      return Error{ErrorCode::badInput, "Context, question and response have " + std::to_string(total) + " tokens; the model's context holds " +
                                            std::to_string(session_.context()) + ".", "Shorten the context or the response."};
    return Done{};
  }

  Status generateResponse() {
    session_.reset();
    const auto prompt = promptTokens();
    const Status fed = session_.prefill(prompt, inner_);
    if (!fed) return fed.error().code == ErrorCode::cancelled ? Status(Done{}) : fed;
    const int room = session_.context() - static_cast<int>(prompt.size());
    const int count = std::min(request_.responseTokens, room);
    Utf8Stream stream;
    for (int i = 0; i < count && !inner_.stopped(); ++i) {
      const int32_t token = session_.sample(session_.tokens(), SamplerSettings{});
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

  // The response in the proxy's tokens: those of the target where they share a vocabulary, else the text encoded anew, with an end
  // token where the target's has one.
  Result<std::vector<int32_t>> proxyResponse() {
    const VocabData &ours = tokenizer_.vocab(), &theirs = proxy_->tokenizer.vocab();
    std::vector<int32_t> response = result_.responseTokens;
    if (ours.tokens != theirs.tokens || ours.merges != theirs.merges) {
      response = responseTokens(proxy_->tokenizer, prompt(), result_.response);
      const bool ended = tokenizer_.isEnd(result_.responseTokens.back());
      if (ended && theirs.eos >= 0) response.push_back(theirs.eos);
      result_.notes.push_back("The proxy has another tokenizer: it reads the response as " + std::to_string(response.size()) + " tokens of its own instead of the target's " +
                              std::to_string(result_.responseTokens.size()) + ".");
      if (response.empty()) return Error{ErrorCode::badInput, "The response has no tokens for the proxy.", "Use a proxy with the target's tokenizer."};
    }
    const size_t total = proxy_->tokenizer.encode(prompt(), true).size() + response.size();
    if (total > static_cast<size_t>(proxy_->session.context()) + 1)
      return Error{ErrorCode::badInput, "Context, question and response have " + std::to_string(total) + " tokens for the proxy, whose context holds " +
                                            std::to_string(proxy_->session.context()) + ".", "Shorten the context or use another proxy."};
    return response;
  }

  void noteCircumstances() {
    std::map<std::string_view, int> first;
    for (const Source& source : result_.sources) {
      const auto [other, fresh] = first.emplace(source.text, source.id);
      if (!fresh)
        result_.notes.push_back("Sources " + std::to_string(other->second + 1) + " and " + std::to_string(source.id + 1) +
                                " say the same: without one the other still supports the answer, so leaving out either shows little. Shapley values share it between them.");
    }
    if (result_.sources.size() == 1) result_.notes.push_back("The context is one source: its score compares the whole context with none.");
    const std::string policy = session_.effective()->config.text("kv.policy");
    if (policy != "full")
      result_.notes.push_back("The cache is evicted by " + policy + ": the scores are those of the model as it runs so, and no prefix is reused.");
  }

  Session& session_;
  const Tokenizer& tokenizer_;
  const AttributeRequest& request_;
  const Progress& progress_;
  const ProxyModel* proxy_;
  Progress inner_;  // stops, reports nothing
  AttributeResult result_;
};

}  // namespace

std::string attributionPrompt(std::string_view context, std::string_view question) {
  return std::string(context) + "\n\n" + std::string(question);
}

Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial, const ProxyModel* proxy) {
  return Attribution(session, tokenizer, request, progress, proxy).run(onPartial);
}

}  // namespace winnow
