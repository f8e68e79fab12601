// SPDX-License-Identifier: GPL-3.0-or-later
// Perplexity against what llama.cpp computes on the same files (shared data, REFERENCE.md), and the protocols' arithmetic.
#include "engine/evaluate/perplexity.h"

#include <cmath>

#include "engine/evaluate/windows.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

PerplexityRequest request(int context, int chunks, PerplexityMode mode = PerplexityMode::llama) {
  PerplexityRequest out;
  out.mode = mode;
  out.context = context;
  out.chunks = chunks;
  return out;
}

struct Row {
  const char* model;
  const char* text;
  int context, chunks;
  double perplexity;
  double tolerance;  // relative
};

PerplexityResult measure(const std::shared_ptr<Engine>& engine, const std::string& text, const PerplexityRequest& asked, const Config& config = Config(),
                         Session* baseline = nullptr) {
  auto session = makeSession(engine, config, {.context = windowTokens(asked)});
  return value(measurePerplexity(*session, baseline, *engine->tokenizer(), text, asked, {}));
}

void check(const Row& row) {
  const auto engine = openEngine(std::string("models/") + row.model + ".gguf");
  const auto result = measure(engine, readFile(sharedData(std::string("corpora/") + row.text)), request(row.context, row.chunks));
  EXPECT(std::fabs(result.perplexity / row.perplexity - 1) <= row.tolerance, row.model, row.text, result.perplexity, "against", row.perplexity);
  std::printf("  %-36s %-20s c=%d x %d: %.4f +- %.4f (llama.cpp %.4f, %+.3f %%), %.4f bits per byte\n", row.model, row.text, row.context, row.chunks,
              result.perplexity, result.stderror, row.perplexity, 100 * (result.perplexity / row.perplexity - 1), result.bitsPerByte);
}

}  // namespace

TEST(f32_rows_of_llama_cpp_within_a_thousandth) {
  for (const Row& row : {Row{"stories260K-f32", "tinystories_val.txt", 256, 20, 3.6251, 0.001}, Row{"stories260K-f32", "tinystories_val.txt", 128, 40, 3.7549, 0.001},
                         Row{"stories260K-f32", "tinystories_val.txt", 256, 40, 3.8232, 0.001}, Row{"stories260K-f32", "wikitext2_test.txt", 128, 20, 458.5357, 0.001},
                         Row{"stories260K-f32", "wiki.test.raw", 256, 40, 92.3579, 0.001}, Row{"llama2xs-280k-f32", "tinystories_val.txt", 256, 20, 7.3464, 0.001},
                         Row{"llama2xs-280k-f32", "tinystories_val.txt", 128, 40, 7.0341, 0.001}, Row{"llama2xs-280k-f32", "wiki.test.raw", 256, 40, 185.7390, 0.001},
                         Row{"tinystories-instruct-3m-chat-f32", "tinystories_val.txt", 256, 20, 8.4345, 0.001},
                         Row{"tinystories-instruct-3m-chat-f32", "tinystories_val.txt", 128, 40, 7.8435, 0.001},
                         Row{"tinystories-instruct-3m-chat-f32", "wikitext2_test.txt", 128, 20, 31288.16, 0.001},
                         Row{"random-llama-256-f32", "tinystories_60k.txt", 256, 10, 852.5622, 0.001}})
    check(row);
}

// llama.cpp rounds activations to 8 bits against block-quantized weights; these use 16-bit activations, so half a percent.
TEST(quantized_rows_of_llama_cpp_within_half_a_percent) {
  for (const Row& row : {Row{"tinystories-instruct-3m-chat-q8_0", "tinystories_val.txt", 256, 20, 8.4054, 0.005},
                         Row{"tinystories-instruct-3m-chat-q4_0", "tinystories_val.txt", 256, 20, 8.4203, 0.005},
                         Row{"random-llama-256-F16", "tinystories_60k.txt", 256, 10, 852.6235, 0.001}, Row{"random-llama-256-Q8_0", "tinystories_60k.txt", 256, 10, 852.3509, 0.005},
                         Row{"random-llama-256-Q6_K", "tinystories_60k.txt", 256, 10, 852.2552, 0.005}, Row{"random-llama-256-Q5_0", "tinystories_60k.txt", 256, 10, 857.6370, 0.005},
                         Row{"random-llama-256-Q5_1", "tinystories_60k.txt", 256, 10, 858.0198, 0.005}, Row{"random-llama-256-Q5_K", "tinystories_60k.txt", 256, 10, 854.1747, 0.005},
                         Row{"random-llama-256-Q4_0", "tinystories_60k.txt", 256, 10, 822.5686, 0.005}, Row{"random-llama-256-Q4_1", "tinystories_60k.txt", 256, 10, 829.7815, 0.005},
                         Row{"random-llama-256-Q4_K", "tinystories_60k.txt", 256, 10, 877.5797, 0.005}, Row{"random-llama-256-Q3_K", "tinystories_60k.txt", 256, 10, 922.5847, 0.005},
                         Row{"random-llama-256-Q2_K", "tinystories_60k.txt", 256, 10, 889.5676, 0.005}})
    check(row);
}

// llama.cpp's logits by its strided protocol (tests/golden/perplexity/llama_stride.py).
TEST(strided_rows_of_llama_cpp) {
  struct Strided {
    const char* model;
    int context, stride, chunks;
    double perplexity;
  };
  const std::string text = readFile(sharedData("corpora/tinystories_val.txt"));
  for (const Strided& row : {Strided{kStories, 128, 64, 20, 3.8341}, Strided{kStories, 128, 32, 20, 3.7792}, Strided{kStories, 200, 100, 12, 3.8069},
                             Strided{kChat, 128, 64, 20, 7.4476}}) {
    auto asked = request(row.context, row.chunks, PerplexityMode::llamaStride);
    asked.stride = row.stride;
    const auto result = measure(openEngine(row.model), text, asked);
    EXPECT_EQ(result.count, int64_t{row.stride} * row.chunks);
    EXPECT(std::fabs(result.perplexity / row.perplexity - 1) < 2e-4, row.model, row.context, row.stride, result.perplexity, "against", row.perplexity);
  }
}

TEST(running_values_of_llama_cpp) {
  const double expected[] = {812.5762, 836.7342, 914.1238, 870.5050, 887.9319, 893.4300, 872.7838, 861.3106, 853.5352, 852.5622};
  const auto engine = openEngine(kRandom);
  const auto asked = request(256, 10);
  auto session = makeSession(engine);
  WindowSums sums;
  size_t i = 0;
  const auto result = value(measurePerplexity(*session, nullptr, *engine->tokenizer(), readFile(sharedData("corpora/tinystories_60k.txt")), asked, {},
                                              [&](const PerplexityWindow& window) {
                                                sums.add(window);
                                                EXPECT_EQ(window.count, 127);
                                                EXPECT_NEAR(sums.perplexity() / expected[i], 1.0, 1e-4);
                                                ++i;
                                              }));
  EXPECT_EQ(i, 10u);
  EXPECT_EQ(sums.perplexity(), result.perplexity);
  EXPECT_EQ(sums.stderror(), result.stderror);
  EXPECT_EQ(result.count, 1270);
  EXPECT_EQ(result.protocol, std::string("llama c=256 chunks=10"));
  EXPECT_EQ(result.nllByPosition.size(), 127u);
}

// llama.cpp's table comes from 8-bit activations on the quantized side, which add a little divergence of their own, and from a base
// file of 16-bit codes clipped at 16 nats: 5 % on the mean, percentage points on the shares.
TEST(divergence_of_llama_cpps_table) {
  struct Expected {
    const char* model;
    double mean, median, p99, p999, max, top1, rms, lnRatio;
  };
  const auto base = openEngine(kRandom);
  const std::string text = readFile(sharedData("corpora/tinystories_60k.txt"));
  for (const Expected& row : {Expected{"random-llama-256-Q4_0", 0.082225, 0.079023, 0.140993, 0.175676, 0.181799, 0.48740, 0.00150, -0.035813},
                              Expected{"random-llama-256-Q4_K", 0.051064, 0.049240, 0.088249, 0.111517, 0.122285, 0.54173, 0.00111, 0.028923}}) {
    const auto engine = openEngine(std::string("models/") + row.model + ".gguf");
    auto baseline = makeSession(base);
    const auto result = measure(engine, text, request(256, 10), Config(), baseline.get());
    EXPECT(result.kld.has_value());
    const DivergenceSummary& kld = *result.kld;
    EXPECT_NEAR(kld.mean / row.mean, 1.0, 0.05);
    EXPECT_NEAR(kld.median / row.median, 1.0, 0.05);
    EXPECT_NEAR(kld.p99 / row.p99, 1.0, 0.08);
    EXPECT_NEAR(kld.p999 / row.p999, 1.0, 0.15);
    EXPECT_NEAR(kld.max / row.max, 1.0, 0.15);
    EXPECT_NEAR(kld.top1, row.top1, 0.03);
    EXPECT_NEAR(kld.rmsDeltaP, row.rms, 0.0001);
    EXPECT_NEAR(kld.meanLnRatio, row.lnRatio, 0.005);
    EXPECT_NEAR(kld.meanLnRatio, std::log(result.perplexity / result.basePerplexity), 1e-9);
    EXPECT_NEAR(result.basePerplexity / 852.5622, 1.0, 0.001);
    std::printf("  %s: mean %.6f +- %.6f median %.6f p99 %.6f p99.9 %.6f max %.6f top1 %.3f %% rms dp %.3f %% ln ratio %+.6f\n", row.model, kld.mean, kld.meanStderr,
                kld.median, kld.p99, kld.p999, kld.max, 100 * kld.top1, 100 * kld.rmsDeltaP, kld.meanLnRatio);
  }
}

TEST(divergence_from_oneself_is_exactly_nothing) {
  const auto engine = openEngine(kChat);
  const std::string text = readFile(sharedData("corpora/tinystories_val.txt"));
  for (const Settings& settings : {Settings{}, Settings{{"weights.bits", "4"}}, Settings{{"kv.policy", "h2o"}, {"kv.budget", "32"}}})
    for (const PerplexityMode mode : {PerplexityMode::llama, PerplexityMode::llamaStride}) {
      const Config config = configure(settings);
      const auto asked = request(128, 2, mode);
      auto baseline = makeSession(engine, config, {.context = windowTokens(asked)});
      const auto result = measure(engine, text, asked, config, baseline.get());
      EXPECT_EQ(result.kld->mean, 0.0);
      EXPECT_EQ(result.kld->max, 0.0);
      EXPECT_EQ(result.kld->top1, 1.0);
      EXPECT_EQ(result.kld->rmsDeltaP, 0.0);
      EXPECT_EQ(result.basePerplexity, result.perplexity);
      const auto alone = measure(engine, text, asked, config);
      EXPECT_EQ(alone.nllSum, result.nllSum);  // a baseline beside it changes no digit
    }
}

TEST(fewer_bits_diverge_more) {
  const auto engine = openEngine("models/llama2xs-280k-f32.gguf");
  const std::string text = readFile(sharedData("corpora/tinystories_val.txt"));
  auto baseline = makeSession(engine, Config(), {.context = 128});
  double before = 0;
  for (const char* bits : {"8", "4", "2"}) {
    const auto result = measure(engine, text, request(128, 4), configure({{"weights.bits", bits}}), baseline.get());
    EXPECT(result.kld->mean > before, bits, result.kld->mean, before);
    before = result.kld->mean;
  }
}

TEST(stepwise_equals_windows_without_a_cache_method_and_is_named) {
  const auto engine = openEngine(kStories);
  const std::string text = readFile(sharedData("corpora/tinystories_val.txt"));
  auto asked = request(64, 4);
  const auto windows = measure(engine, text, asked);
  asked.stepwise = true;
  const auto steps = measure(engine, text, asked);
  EXPECT_NEAR(steps.perplexity / windows.perplexity, 1.0, 1e-3);
  EXPECT_EQ(steps.protocol, std::string("llama c=64 chunks=4 stepwise"));
  asked.stepwise.reset();
  const auto evicting = measure(engine, text, asked, configure({{"kv.policy", "window"}, {"kv.budget", "16"}, {"kv.interval", "1"}}));
  EXPECT_EQ(evicting.protocol, steps.protocol);  // on by itself
  EXPECT(evicting.perplexity > steps.perplexity, evicting.perplexity, steps.perplexity);
}

TEST(windows_of_llama_cpp) {
  const auto windows = value(evaluationWindows(request(512, 0), 512 * 3 + 511, true));
  EXPECT_EQ(windows.size(), 3u);
  EXPECT_EQ(windows[2].begin, 1024);
  EXPECT_EQ(windows[2].firstScored, 256);
  EXPECT_EQ(windows[2].scored(), 255);
  EXPECT(windows[2].bosFirst);
  auto shortText = evaluationWindows(request(512, 1), 1023, true);
  EXPECT(!shortText && shortText.error().code == ErrorCode::badInput);
  EXPECT(shortText.error().message.find("1023") != std::string::npos && shortText.error().message.find("1024") != std::string::npos);

  auto strided = request(512, 0, PerplexityMode::llamaStride);
  strided.stride = 256;
  EXPECT_EQ(windowTokens(strided), 640);
  const auto some = value(evaluationWindows(strided, 2000, true));
  EXPECT_EQ(some.size(), 6u);  // ceil((2000 - 640) / 256), the last still whole
  EXPECT_EQ(some[1].begin, 256);
  EXPECT_EQ(some[1].scored(), 256);
  EXPECT(!some[1].bosFirst);
}

// The recipe of the Hugging Face documentation, followed by hand for 10 tokens, window 4, stride 2.
TEST(windows_of_hugging_face) {
  auto asked = request(4, 0, PerplexityMode::hfExact);
  asked.stride = 2;
  const auto exact = value(evaluationWindows(asked, 10, true));
  std::string seen;
  for (const EvaluationWindow& window : exact)
    seen += std::to_string(window.begin) + "+" + std::to_string(window.length) + "@" + std::to_string(window.firstScored) + "=" + std::to_string(static_cast<int>(window.weight)) + " ";
  EXPECT_EQ(seen, std::string("0+4@0=3 2+4@1=2 4+4@1=2 6+4@1=2 "));
  asked.mode = PerplexityMode::hfDoc;  // later windows weigh one too little
  seen.clear();
  for (const EvaluationWindow& window : value(evaluationWindows(asked, 10, true))) seen += std::to_string(static_cast<int>(window.weight)) + " ";
  EXPECT_EQ(seen, std::string("3 1 1 1 "));
  asked.mode = PerplexityMode::hfExact;
  int targets = 0;
  for (const EvaluationWindow& window : value(evaluationWindows(asked, 11, true))) targets += window.scored();
  EXPECT_EQ(targets, 10);  // every token but the first once, the odd remainder included
}

// hf-exact over one window is the mean NLL of all tokens but the first: computed here from the logits, step by step.
TEST(hugging_face_modes_and_bits_per_byte_by_hand) {
  const auto engine = openEngine(kStories);
  const std::string text = "Once upon a time, there was a café. Lily ran to the big red ball.";
  const auto& tokenizer = *engine->tokenizer();
  const auto ids = tokenizer.encode(text, true);
  const auto asked = request(static_cast<int>(ids.size()), 0, PerplexityMode::hfExact);
  const auto result = measure(engine, text, asked);
  auto session = makeSession(engine);
  double nll = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    ok(session->step(ids[i]));
    double sum = 0;
    for (const float logit : session->logits()) sum += std::exp(static_cast<double>(logit));
    nll += std::log(sum) - session->logits()[static_cast<size_t>(ids[i + 1])];
  }
  EXPECT_EQ(result.count, static_cast<int64_t>(ids.size() - 1));
  EXPECT_NEAR(result.nllSum / nll, 1.0, 1e-3);
  EXPECT_NEAR(result.perplexity, std::exp(result.nllSum / static_cast<double>(result.count)), 1e-9);
  // The scored tokens spell the text and the space SentencePiece puts before it.
  EXPECT_NEAR(result.bitsPerByte, result.nllSum / std::log(2.0) / static_cast<double>(text.size() + 1), 1e-9);

  auto doc = asked;
  doc.mode = PerplexityMode::hfDoc;
  EXPECT_NEAR(measure(engine, text, doc).perplexity, result.perplexity, 1e-9);  // one window: no quirk
  doc.context = 8;
  doc.stride = 4;
  auto exact = doc;
  exact.mode = PerplexityMode::hfExact;
  EXPECT(measure(engine, text, doc).perplexity != measure(engine, text, exact).perplexity);
}

TEST(quantiles_interpolate_linearly) {
  const std::vector<float> values = {4, 1, 3, 2};
  EXPECT_NEAR(quantileOf(values, 0.0), 1, 1e-12);
  EXPECT_NEAR(quantileOf(values, 0.5), 2.5, 1e-12);
  EXPECT_NEAR(quantileOf(values, 0.99), 3.97, 1e-6);
  EXPECT_NEAR(quantileOf(values, 1.0), 4, 1e-12);
}

TEST(cancel_stops_at_a_window) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  int seen = 0;
  auto result = measurePerplexity(*session, nullptr, *engine->tokenizer(), readFile(sharedData("corpora/tinystories_val.txt")), request(64, 0), progress,
                                  [&](const PerplexityWindow&) {
                                    if (++seen == 2) stop.request_stop();
                                  });
  EXPECT(!result && result.error().code == ErrorCode::cancelled);
  EXPECT_EQ(seen, 2);
}

TEST(a_window_beyond_the_session_is_refused) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine, Config(), {.context = 64});
  auto result = measurePerplexity(*session, nullptr, *engine->tokenizer(), std::string(4000, 'a'), request(128, 0), {});
  EXPECT(!result && result.error().code == ErrorCode::badInput);
}
