// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/similarity.h"

#include <algorithm>

#include "experiments/attention.h"
#include "experiments/jobs.h"

namespace winnow {

Result<SimilarityMap> similarityRun(Engine& engine, const Config& config, const SimilaritySpec& spec, const Progress& progress) {
  if (!engine.tokenizer()) return noTokenizer();
  const int known = engine.model().config().context, window = spec.context > 0 ? spec.context : known > 0 ? std::min(256, known) : 256;
  SessionOptions options;
  options.context = window;
  options.maxBatch = std::min(32, window);  // the attention of all layers is held for a batch
  const auto session = engine.createSession(withWholeCache(config), options, progress);
  if (!session) return session.error();
  std::vector<int32_t> ids = engine.tokenizer()->encode(spec.text, true);
  ids.resize(std::min(ids.size(), static_cast<size_t>(spec.tokens)));
  return measureSimilarity(**session, ids, window, progress);
}

}  // namespace winnow
