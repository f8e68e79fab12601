// SPDX-License-Identifier: GPL-3.0-or-later
// What a token reads of a cache in bit planes (kv.aligned), and how long it takes beside one whose cache lies in rows: the two in turn, over
// the same text, so that what else the machine does falls on both. A text that is too short is read again.
//   bench_kv_aligned MODEL TEXT [binades] [steps] [tokens ...]
#include "engine/run/engine.h"
#include "engine/text/tokenizer.h"
#include "tests/bench/bench.h"

#include <cstdio>
#include <fstream>
#include <sstream>

using namespace winnow;
using namespace winnow::bench;

namespace {

void compare(const std::shared_ptr<Engine>& engine, const std::vector<int32_t>& text, const Config& aligned, int length, int steps) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < length; ++i) prompt.push_back(text[static_cast<size_t>(i) % text.size()]);
  const SessionOptions options{.context = length + steps + 1};
  const auto plain = need(engine->createSession(Config(), options, {})), planes = need(engine->createSession(aligned, options, {}));
  for (Session* session : {plain.get(), planes.get()}) need(session->prefill(prompt, {}));
  std::vector<double> ms[2];
  double read = 0, whole = 0;
  for (int i = 0; i < steps; ++i) {
    const int32_t next = text[static_cast<size_t>(length + i) % text.size()];
    for (const int which : {0, 1}) {
      const auto start = Clock::now();
      need((which == 0 ? plain : planes)->step(next));
      if (i > 0) ms[which].push_back(1e3 * secondsSince(start));
    }
    read += static_cast<double>(planes->kvBytesPerToken());
    whole += static_cast<double>(plain->kvBytesPerToken());
  }
  std::printf("%6d tokens  %9.1f KiB of the cache read by a token, %.3f of all  %8.3f ms/token, %.2fx\n", length, read / steps / 1024, read / whole, median(ms[1]),
              median(ms[1]) / median(ms[0]));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) stop("bench_kv_aligned MODEL TEXT [binades] [steps] [tokens ...]");
  const int steps = argc > 4 ? std::atoi(argv[4]) : 40;
  const auto engine = need(Engine::create(need(Model::open(argv[1])), {}));
  std::ostringstream text;
  text << std::ifstream(argv[2]).rdbuf();
  if (!engine->tokenizer()) stop("the model has no vocabulary");
  const std::vector<int32_t> ids = engine->tokenizer()->encode(text.str(), true);
  if (ids.empty()) stop("the text has no tokens");
  const Config aligned = need(Config().parsed("kv.aligned", argc > 3 ? argv[3] : "4"));
  std::vector<int> lengths;
  for (int i = 5; i < argc; ++i) lengths.push_back(std::atoi(argv[i]));
  if (lengths.empty()) lengths = {128, 512, 2048};
  for (const int length : lengths) compare(engine, ids, aligned, length, steps);
}
