// SPDX-License-Identifier: GPL-3.0-or-later
// pp (prompt processing) and tg (text generation) at a depth, as llama-bench defines them (engines.md C.1), plus medians,
// p5/p95 and the roofline measured in the same run with the same threads.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

struct BenchRequest {
  std::vector<int> prompt = {512};
  std::vector<int> generate = {128};
  std::vector<int> depth = {0};
  std::vector<int> batch = {1};     // sequences decoded together, each with a cache of its own. Prompts go in one at a time: pp has no batch
  int repetitions = 5;
  bool realText = false;            // feed `text` instead of random ids; labelled
  std::string text;
  bool roofline = true;
};

struct BenchRepetition {
  double seconds = 0;
  double tokensPerSecond = 0;
};

struct BenchTest {
  std::string name;  // "pp512", "tg128 @ d512", "tg128@b4"
  int tokens = 0, depth = 0;  // of each sequence
  int batch = 1;
  bool prefill = false;
  std::vector<BenchRepetition> repetitions;
  double tokensPerSecond = 0, stddev = 0;       // mean and sample deviation of the repetitions' rates, all sequences counted
  double medianMs = 0, p5Ms = 0, p95Ms = 0;     // ms per token of a sequence: of single steps for tg, of repetitions for pp
  double share = 0;  // of the roofline: tg bytes read per second / read bandwidth; pp FLOP/s / peak. 0 when not measured
};

struct BenchResult {
  std::vector<BenchTest> tests;
  double readGbs = 0, gemmGflops = 0;
  double decodeShare = 0, prefillShare = 0;  // of the first tg and pp tests
  std::string protocol;  // "llama-bench random" or "llama-bench real text"
};

// One warm-up, then the repetitions; roofline measured before, between and after tests and the median taken.
// onRepetition is called after each recorded repetition. The session is left reset. Further sequences of a batch run in sessions of
// the same configuration.
Result<BenchResult> runBench(Engine& engine, Session& session, const BenchRequest& request, const Progress& progress,
                             const std::function<void(const BenchTest&, int repetition)>& onRepetition = {});

}  // namespace winnow
