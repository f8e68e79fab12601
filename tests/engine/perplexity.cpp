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
