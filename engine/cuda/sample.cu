// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/sample.cuh"

namespace winnow::cuda {

size_t sampleScratchBytes(int vocab) { return static_cast<size_t>(vocab) * (sizeof(Mass) + sizeof(float)); }

void sample(Stream stream, const SampleArgs& args) {
  CHECK(args.vocab > 0 && args.vocab <= 1 << 19, args.vocab, "the sum of the masses must fit 64 bits");
  CHECK(args.historyCount >= 0 && args.historyCount <= kMostHistory, args.historyCount);
  SampleJob job;
  job.logits = args.logits;
  job.history = args.history;
  job.position = args.position;
  auto* masses = static_cast<Mass*>(args.scratch);
  job.masses = masses;
  job.adjusted = reinterpret_cast<float*>(masses + args.vocab);
  job.token = args.token;
  job.seed = args.seed;
  job.temperature = args.temperature;
  job.topP = args.topP;
  job.minP = args.minP;
  job.penalty = args.repetitionPenalty;
  job.vocab = args.vocab;
  job.historyCount = args.historyCount;
  job.topK = args.topK;
  launch("sample", stream, {dim3(1), dim3(kLogitsThreads)}, sampleToken, job);
}

}  // namespace winnow::cuda
