// SPDX-License-Identifier: GPL-3.0-or-later
#include <unistd.h>

#include <QJsonArray>
#include <algorithm>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/run/sampler.h"
#include "engine/text/chat.h"
#include "experiments/jobs.h"

namespace winnow::cli {
namespace {

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

int printGenerated(const Invocation& invocation, const GenerateResult& g, Session& session, const std::string& format) {
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
    if (const QJsonObject sparse = sparseJson(session); !sparse.isEmpty()) object["activation"] = sparse;
    if (!format.empty()) object["chat_format"] = QString::fromStdString(format);
    return g.stopped ? invocation.stopped(object) : invocation.print(object);
  }
  if (isatty(STDOUT_FILENO)) std::fputc('\n', stdout);
  if (g.stopped) return invocation.stopped({});
  if (!isatty(STDERR_FILENO)) return 0;  // a script asks for --json
  std::vector<double> sorted = g.tokenMs;
  std::ranges::sort(sorted);
  const double median = sorted.empty() ? 0 : sorted[sorted.size() / 2];
  int64_t total = 0;
  for (int64_t bytes : session.memory()) total += bytes;
  std::fprintf(stderr, "\n%zu tokens, %.3g ms per token (median, %.1f tokens/s), prompt %.3g ms, memory %s\n", g.tokens.size(), median, median > 0 ? 1000 / median : 0,
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
  if (!tokenizer) return invocation.fail(noTokenizer());
  GenerateRequest request;
  request.prompt = QString::fromStdString(arguments.text("--prompt"));
  request.tokens = static_cast<int>(*count);
  request.chat = arguments.has("--chat");
  request.ignoreEos = arguments.has("--ignore-eos");
  request.sampler = *sampler;
  std::string format;
  if (request.chat) {
    const ChatFormat detected = detectChatFormat(tokenizer->vocab().chatTemplate);
    format = chatFormatName(detected);
    if (detected == ChatFormat::raw) invocation.warn("the model's chat template is not one of ChatML, Llama 2, Llama 3, Mistral, Gemma: the prompt runs raw.");
  }
  const auto session = invocation.openSession(**engine, static_cast<int>(*context));
  if (!session) return invocation.fail(session.error());
  JobContext job;
  job.engine = *engine;
  job.progress = invocation.progress();
  if (!invocation.json()) job.progress.report = {};  // the text itself is the progress
  size_t shown = 0;
  GenerateObserver observer;
  if (!invocation.json())
    observer.onToken = [&](const TokenPoint& point) {
      if (point.prompt) return;
      const std::string bytes = point.text.toStdString();
      std::fwrite(bytes.data(), 1, bytes.size(), stdout);
      std::fflush(stdout);
      shown += bytes.size();
    };
  observer.onEvent = [&](const EngineEvent& event) {
    if (event.kind == EngineEvent::Kind::warning) invocation.warn(event.text);
  };
  const auto generated = generateRun(job, **session, request, observer);
  if (!generated) return invocation.fail(generated.error());
  if (!invocation.json() && generated->text.size() > shown) std::fputs(generated->text.c_str() + shown, stdout);
  return printGenerated(invocation, *generated, **session, format);
}

}  // namespace winnow::cli
