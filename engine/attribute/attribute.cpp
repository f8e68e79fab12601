// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution with a model: checks, the response, the method, and what a person should know about the scores.
#include "engine/attribute/attribute.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <tuple>

#include "engine/attribute/budget.h"
#include "engine/attribute/model_scorer.h"
#include "engine/attribute/token_ranges.h"
#include "engine/cache/registry.h"
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
    takeMethod(*method);
    result_.samples = request_.samples;
    result_.seed = request_.seed;
    result_.unit = method->unit.value_or(request_.unit);
    auto sources = split(method->unit.has_value());
    if (!sources) return sources.error();
    result_.sources = std::move(*sources);
    if (result_.sources.empty()) return withoutSources();
    if (Status checked = check(); !checked) return checked.error();
    progress_(0.0, "response");
    if (Status prepared = prepareResponse(); !prepared) return prepared.error();
    if (inner_.stopped()) return result_;
    if (Status ready = prepareScores(); !ready) return ready.error();
    noteCircumstances();
    return runMethod(method, onPartial);
  }

 private:
  void takeMethod(const AttributionMethod& method) {
    result_.method = method.name;
    result_.tricks.clear();
    if (!method.usesProxy) return;
    result_.tricks = tricksText(request_.attribot);
    if (!proxy_) result_.tricks.resize(result_.tricks.find_last_of(',') == std::string::npos ? 0 : result_.tricks.find_last_of(','));
    if (result_.tricks.empty()) result_.tricks = "none";
  }

  Result<AttributeResult> runMethod(const AttributionMethod* method, const std::function<void(const AttributeResult&)>& onPartial) {
    began_ = Clock::now();
    ModelScorer target(session_, tokenizer_, request_.question, result_.responseTokens, progress_.stop, request_.together);
    std::optional<ModelScorer> proxy;
    if (proxy_) {
      auto response = proxyResponse();
      if (!response) return response.error();
      proxy.emplace(proxy_->session, proxy_->tokenizer, request_.question, std::move(*response), progress_.stop, request_.together);
    }
    AttributionTask task{request_, target, result_, proxy ? &*proxy : nullptr, progress_};
    if (request_.seconds > 0) {
      const Status planned = planBudget(target, proxy ? &*proxy : nullptr);
      if (!planned) return planned.error().code == ErrorCode::cancelled ? Result<AttributeResult>(result_) : Result<AttributeResult>(planned.error());
      const AttributionForecast& chosen = result_.forecasts[static_cast<size_t>(result_.forecast)];
      if (chosen.proxyTokens == 0) task.proxy = nullptr;
      method = findAttributionMethod(request_.method);
      task.late = [this] { return msSince(began_) >= request_.seconds * 1000; };
      task.measuresNoise = chosen.seconds + 4 * wholeMs_ / 1000 <= request_.seconds;
      if (!task.measuresNoise) result_.notes.push_back("There was no time to measure the noise floor: small scores may be noise.");
    }
    task.span = {result_.spanFirst, result_.spanLast};
    task.proxySpan = proxySpan_;
    task.onPartial = [&](const AttributeResult&) {
      settle();
      if (onPartial) onPartial(result_);
    };
    task.partial();
    const Status done = method->run(task);
    settle();
    session_.reset();
    if (proxy_) proxy_->session.reset();
    if (!done && done.error().code != ErrorCode::cancelled) return done.error();
    result_.complete = done.ok();
    if (result_.complete) progress_(1.0, "done");
    return result_;
  }

  void settle() {
    result_.ms = msSince(began_) - result_.noiseMs;
    result_.parameterTokens = static_cast<double>(result_.forwardTokens - result_.proxyForwardTokens) * static_cast<double>(session_.parameters());
    if (!proxy_) return;
    result_.parameterTokens += static_cast<double>(result_.proxyForwardTokens) * static_cast<double>(proxy_->session.parameters());
    // Tokens of another vocabulary are not those of the response.
    const size_t count = result_.responseTokens.size();
    const auto drop = [count](std::vector<Source>& sources) {
      for (Source& source : sources)
        if (source.perToken.size() != count) source.perToken.clear();
    };
    if (result_.responseNll.size() != count) result_.responseNll.clear();
    drop(result_.sources);
    for (AttributionLevel& level : result_.levels) drop(level.sources);
  }

  // Lengths in tokens are shares of the context's by bytes: near enough to plan with.
  BudgetInput budgetInput(const ModelScorer& target) const {
    BudgetInput in;
    in.method = request_.method;
    const auto whole = static_cast<int64_t>(target.promptTokens(request_.context).size()), question = static_cast<int64_t>(target.promptTokens("").size());
    in.suffix = question + static_cast<int64_t>(result_.responseTokens.size());
    const double perByte = static_cast<double>(std::max<int64_t>(whole - question, 1)) / static_cast<double>(std::max<size_t>(request_.context.size(), 1));
    const std::vector<Source> paragraphs = splitSources(request_.context, SourceUnit::paragraph);
    size_t at = 0;
    for (const Source& source : result_.sources) {
      while (at + 1 < paragraphs.size() && source.start >= paragraphs[at + 1].start) ++at;
      in.lengths.push_back(std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(source.separatorEnd - source.start) * perByte)));
      in.paragraphs.push_back(at);
    }
    return in;
  }

  Status planBudget(ModelScorer& target, ModelScorer* proxy) {
    progress_(0.0, "measuring speed");
    BudgetInput in = budgetInput(target);
    if (proxy) {
      const auto ms = proxy->measureSpeed(request_.context);
      if (!ms) return ms.error();
      in.proxyMs = *ms;
    }
    const auto ms = target.measureSpeed(request_.context);
    if (!ms) return ms.error();
    in.targetMs = *ms;
    wholeMs_ = *ms * static_cast<double>(target.promptTokens(request_.context).size() + result_.responseTokens.size());
    const double left = request_.seconds - msSince(began_) / 1000;
    result_.forecasts = forecastAttribution(in, left);
    result_.forecast = chooseForecast(result_.forecasts, left);
    const AttributionForecast& chosen = result_.forecasts[static_cast<size_t>(result_.forecast)];
    applyForecast(chosen, request_);
    result_.samples = request_.samples;
    takeMethod(*findAttributionMethod(request_.method));
    if (chosen.proxyTokens == 0 && proxy_ && chosen.method == "attribot") result_.tricks = chosen.tricks;
    char text[160];
    std::snprintf(text, sizeof text, "Of %.3g s, %s%s%s is expected to take %.3g.", request_.seconds, chosen.method.c_str(), chosen.tricks.empty() ? "" : " with ",
                  chosen.tricks.c_str(), chosen.seconds);
    result_.notes.push_back(std::string(text) + " " + chosen.basis);
    if (chosen.seconds > left) result_.notes.push_back("No way ends in that time: the quickest was begun, and stops when the time is spent.");
    return Done{};
  }

  // Windows lie within sentences, where these can choose which to look into; those of a method's own do not.
  Result<std::vector<Source>> split(bool own) const {
    const std::string& text = request_.context;
    switch (result_.unit) {
      case SourceUnit::window:
        return splitWindows(text, tokenizer_, request_.windowTokens, own ? std::vector<Source>() : splitSources(text, SourceUnit::sentence));
      case SourceUnit::document: return splitDocuments(text, request_.documents);
      case SourceUnit::given: return sourcesOf(text, request_.ranges);
      default: return splitSources(text, result_.unit);
    }
  }

  // Where the response's tokens stand, which of them are scored, and whether an earlier run was about the same.
  Status prepareScores() {
    result_.responseEnds = tokenEnds(tokenizer_, result_.responseTokens, result_.response);
    if (result_.responseEnds.empty()) {  // a space of SentencePiece, or bytes that are no text
      int64_t end = 0;
      for (const int32_t id : result_.responseTokens) {
        end += static_cast<int64_t>(tokenizer_.isControl(id) ? 0 : tokenizer_.piece(id).size());
        result_.responseEnds.push_back(std::min(end, static_cast<int64_t>(result_.response.size())));
      }
    }
    result_.spanLast = static_cast<int>(result_.responseTokens.size());
    if (request_.span) {
      const auto tokens = spanTokens(result_, *request_.span);
      if (!tokens) return tokens.error();
      std::tie(result_.spanFirst, result_.spanLast) = *tokens;
    }
    if (!request_.known) return Done{};
    const KnownOutcomes& known = *request_.known;
    const auto same = [](const ByteRange& range, const Source& source) { return range.start == source.start && range.end == source.end; };
    if (known.context == request_.context && known.question == request_.question && known.responseTokens == result_.responseTokens &&
        std::ranges::equal(known.sources, result_.sources, same))
      return Done{};
    return Error{ErrorCode::usage, "The attribution to go on with is of another text, response or unit.", "Start a new one."};
  }

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
      result_.responseTokens = !request_.responseIds.empty() ? request_.responseIds : responseTokens(tokenizer_, prompt(), result_.response);
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

  // The scored part in tokens of the proxy: those that touch its bytes.
  std::pair<int, int> proxyTokens(const std::vector<int32_t>& response) const {
    if (result_.spanFirst == 0 && result_.spanLast == static_cast<int>(result_.responseTokens.size())) return {0, static_cast<int>(response.size())};
    AttributeResult theirs;
    theirs.response = result_.response;
    theirs.responseTokens = response;
    theirs.responseEnds = tokenEnds(proxy_->tokenizer, response, result_.response);
    const int64_t begin = result_.spanFirst > 0 ? result_.responseEnds[static_cast<size_t>(result_.spanFirst) - 1] : 0;
    const auto tokens = spanTokens(theirs, {ResponseSpan::Unit::bytes, begin, result_.responseEnds[static_cast<size_t>(result_.spanLast) - 1]});
    return tokens ? *tokens : std::pair{0, static_cast<int>(response.size())};
  }

  // The response in the proxy's tokens: those of the target where they share a vocabulary, else the text encoded anew, with an end
  // token where the target's has one.
  Result<std::vector<int32_t>> proxyResponse() {
    const VocabData &ours = tokenizer_.vocab(), &theirs = proxy_->tokenizer.vocab();
    std::vector<int32_t> response = result_.responseTokens;
    proxySpan_ = {result_.spanFirst, result_.spanLast};
    if (ours.tokens != theirs.tokens || ours.merges != theirs.merges) {
      response = responseTokens(proxy_->tokenizer, prompt(), result_.response);
      const bool ended = tokenizer_.isEnd(result_.responseTokens.back());
      if (ended && theirs.eos >= 0) response.push_back(theirs.eos);
      result_.notes.push_back("The proxy has another tokenizer: it reads the response as " + std::to_string(response.size()) + " tokens of its own instead of the target's " +
                              std::to_string(result_.responseTokens.size()) + ".");
      if (response.empty()) return Error{ErrorCode::badInput, "The response has no tokens for the proxy.", "Use a proxy with the target's tokenizer."};
      proxySpan_ = proxyTokens(response);
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
    const std::shared_ptr<const Effective> effective = session_.effective();
    if (const std::string& method = effective->config.text("activation.method"); method != "none")
      result_.notes.push_back("Activations are sparse where tokens are decoded (" + method + "): an answer is written so, and scored by the whole model, as prompts are.");
    const std::string policy = effective->config.text("kv.policy");
    if (kvPolicy(policy).selects)
      result_.notes.push_back("A step reads a part of the cache (" + policy + "): an answer is written so, and scored with all of it, as prompts are.");
    else if (policy != "full")
      result_.notes.push_back("The cache is evicted by " + policy + ": the scores are those of the model as it runs so, and no prefix is reused.");
  }

  Session& session_;
  const Tokenizer& tokenizer_;
  AttributeRequest request_;  // a budget chooses its method
  const Progress& progress_;
  const ProxyModel* proxy_;
  Progress inner_;  // stops, reports nothing
  std::pair<int, int> proxySpan_{};
  Clock::time_point began_{};
  double wholeMs_ = 0;  // a forward of the whole text, with a budget
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
