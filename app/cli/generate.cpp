// SPDX-License-Identifier: GPL-3.0-or-later
#include <QJsonArray>
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/run/sampler.h"
#include "engine/text/chat.h"

namespace winnow::cli {
namespace {

using Clock = std::chrono::steady_clock;
double msSince(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

struct Generated {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<double> tokenMs, nll;
  double prefillMs = 0;
};

Result<SamplerSettings> samplerSettings(const Arguments& arguments) {
  SamplerSettings s;
  const auto temperature = arguments.real("--temperature", 0, 0, 100);
  const auto topK = arguments.integer("--top-k", 0, 0, 1 << 24);
  const auto topP = arguments.real("--top-p", 1, 0, 1);
  const auto minP = arguments.real("--min-p", 0, 0, 1);
  const auto penalty = arguments.real("--repetition-penalty", 1, 0.1, 10);
  const auto seed = arguments.integer("--seed", 1, 0, INT64_MAX);
  for (const auto* number : {&temperature, &topP, &minP, &penalty})
    if (!*number) return number->error();
  for (const auto* number : {&topK, &seed})
    if (!*number) return number->error();
  s.temperature = static_cast<float>(*temperature);
  s.topK = static_cast<int>(*topK);
  s.topP = static_cast<float>(*topP);
  s.minP = static_cast<float>(*minP);
  s.repetitionPenalty = static_cast<float>(*penalty);
  s.seed = static_cast<uint64_t>(*seed);
  return s;
}

// Prompt in, tokens out until the end token, `count`, the end of the context or a stop.
Result<Generated> generate(Session& session, const Tokenizer& tokenizer, const std::vector<int32_t>& prompt, int count, bool ignoreEos,
                           const SamplerSettings& sampler, const Progress& progress, bool stream) {
  Generated out;
  const auto start = Clock::now();
  if (const Status fed = session.prefill(prompt, progress); !fed) return fed.error();
  out.prefillMs = msSince(start);
  std::vector<int32_t> history = prompt;
  Utf8Stream utf8;
  const auto show = [&](const std::string& text) {
    out.text += text;
    if (stream && !text.empty()) std::fwrite(text.data(), 1, text.size(), stdout), std::fflush(stdout);
  };
  while (static_cast<int>(out.tokens.size()) < count && session.position() < session.context() && !progress.stopped()) {
    const auto begin = Clock::now();
    const int32_t token = sample(session.logits(), history, sampler, static_cast<uint64_t>(session.position()));
    if (tokenizer.isEnd(token) && !ignoreEos) break;
    cpu::TokenScore score;
    cpu::scoreLogits(session.cpuContext(), session.logits().data(), static_cast<int64_t>(session.logits().size()), static_cast<int>(session.logits().size()), &token, 1, &score);
    if (const Status stepped = session.step(token); !stepped) return stepped.error();
    out.tokenMs.push_back(msSince(begin));
    out.nll.push_back(score.nll);
    out.tokens.push_back(token);
    history.push_back(token);
    show(utf8.push(tokenizer.piece(token)));
  }
  show(utf8.finish());
  return out;
}

int printGenerated(const Invocation& invocation, const Generated& g, Session& session, const std::string& format) {
  if (invocation.json()) {
    QJsonArray tokens, ms, nll;
    for (size_t i = 0; i < g.tokens.size(); ++i) {
      tokens.append(g.tokens[i]);
      ms.append(g.tokenMs[i]);
      nll.append(g.nll[i]);
    }
    char hash[32];
    std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(session.logitsHash()));
    QJsonObject object{{"text", QString::fromStdString(g.text)}, {"tokens", tokens}, {"prefill_ms", g.prefillMs}, {"token_ms", ms}, {"nll", nll},
                       {"memory", memoryJson(session.memory())}, {"config", configJson(*session.effective())}, {"logits_hash", hash}};
    if (!format.empty()) object["chat_format"] = QString::fromStdString(format);
    return invocation.print(object);
  }
  std::vector<double> sorted = g.tokenMs;
  std::ranges::sort(sorted);
  const double median = sorted.empty() ? 0 : sorted[sorted.size() / 2];
  int64_t total = 0;
  for (int64_t bytes : session.memory()) total += bytes;
  std::fprintf(stderr, "\n\n%zu tokens, %.3g ms per token (median, %.1f tokens/s), prompt %.3g ms, memory %s\n", g.tokens.size(), median, median > 0 ? 1000 / median : 0,
               g.prefillMs, bytesText(total).c_str());
  return 0;
}

}  // namespace

int runGenerate(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  const auto count = arguments.integer("-n", 64, 0, 1 << 24);
  const auto context = arguments.integer("--context", 0, 1, 1 << 24);
  const auto sampler = samplerSettings(arguments);
  if (!count) return invocation.fail(count.error());
  if (!context) return invocation.fail(context.error());
  if (!sampler) return invocation.fail(sampler.error());
  if (!arguments.has("--prompt")) return invocation.fail({ErrorCode::usage, "generate needs --prompt TEXT.", ""});
  const auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  const auto tokenizer = (*engine)->tokenizer();
  if (!tokenizer) return invocation.fail({ErrorCode::badInput, "the model file holds no tokenizer: a prompt can't be read.", "Use a file with its vocabulary."});
  std::string prompt = arguments.text("--prompt"), format;
  if (arguments.has("--chat")) {
    const ChatFormat detected = detectChatFormat(tokenizer->vocab().chatTemplate);
    format = chatFormatName(detected);
    if (detected == ChatFormat::raw) invocation.warn("the model's chat template is not one of ChatML, Llama 2, Llama 3, Mistral, Gemma: the prompt runs raw.");
    prompt = applyChat(detected, prompt);
  }
  const std::vector<int32_t> ids = tokenizer->encode(prompt, true, arguments.has("--chat"));
  if (ids.empty()) return invocation.fail({ErrorCode::badInput, "the prompt is empty and the model has no begin token: there is nothing to continue.", "Give --prompt some text."});
  const auto session = invocation.openSession(**engine, static_cast<int>(*context));
  if (!session) return invocation.fail(session.error());
  const Progress progress = invocation.progress();
  const auto generated = generate(**session, *tokenizer, ids, static_cast<int>(*count), arguments.has("--ignore-eos"), *sampler, progress, !invocation.json());
  if (!generated) return invocation.fail(generated.error());
  for (const EngineEvent& event : (*session)->takeEvents())
    if (event.kind == EngineEvent::Kind::warning) invocation.warn(event.text);
  const int code = printGenerated(invocation, *generated, **session, format);
  return progress.stopped() ? static_cast<int>(ErrorCode::cancelled) : code;
}

}  // namespace winnow::cli
