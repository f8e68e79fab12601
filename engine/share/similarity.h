// SPDX-License-Identifier: GPL-3.0-or-later
// How much alike the attention of two layers is on a text (EchoAtt: Rajabzadeh et al., ENLSP-IV 2024, arXiv 2409.14595: cosine), and spans
// of layers that are alike enough to share it.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/run/engine.h"
#include "engine/share/spans.h"

namespace winnow {

// What is compared: the row of a head and query, the same without the first token (a sink there makes unrelated layers alike), all rows of
// a head and window as one vector, rows of the mean over heads.
enum class SimilarityOf : uint8_t { rows, noSink, windows, headMean, count };
const char* similarityName(SimilarityOf which);  // rows, no-sink, windows, head-mean

struct SimilarityMap {
  int layers = 0;
  int64_t tokens = 0;
  std::vector<double> values[static_cast<size_t>(SimilarityOf::count)];  // [layers, layers], symmetric, 1 on the diagonal
  double at(SimilarityOf which, int a, int b) const {
    return values[static_cast<size_t>(which)][static_cast<size_t>(a) * static_cast<size_t>(layers) + static_cast<size_t>(b)];
  }
};

// Sees every layer of a batch, then compares them all. A query that sees one token alone (two, without the first) says nothing and is left
// out, but in whole windows.
class AttentionSimilarity final : public AttentionTap {
 public:
  explicit AttentionSimilarity(int layers);
  void take(int layer, const AttentionRows& rows) override;
  void endWindow();  // what comes begins another
  SimilarityMap map() const;

 private:
  struct Mean {
    double sum = 0;
    int64_t count = 0;
    void add(double value) {
      sum += value;
      ++count;
    }
  };
  struct Pair {
    Mean rows, noSink, windows, headMean;
    std::vector<double> dots;  // [heads] of this window
  };
  void compare(int64_t first, int queries);
  void compareRow(int head, int64_t seen, int query);
  const float* row(int layer, int head, int query) const;
  Pair& pair(int a, int b) { return pairs_[static_cast<size_t>(a) * static_cast<size_t>(layers_) + static_cast<size_t>(b)]; }  // a < b

  int layers_, heads_ = 0, queries_ = 0;
  int64_t columns_ = 0, tokens_ = 0;
  std::vector<std::vector<float>> rows_;      // [layers][heads, queries, columns] of a batch
  std::vector<std::vector<float>> means_;     // [layers][columns] of a query, over heads
  std::vector<std::vector<double>> squares_;  // [layers][heads] of this window
  std::vector<double> norms_;                 // [layers] squared, of a row
  std::vector<Pair> pairs_;                   // [layers, layers]
};

// Feeds windows of ids, each from an empty cache, through a session that shares no attention; it is left empty. Errors: those of prefill,
// cancelled, and fewer than four ids.
Result<SimilarityMap> measureSimilarity(Session& session, std::span<const int32_t> ids, int window, const Progress& progress);

// Spans between the first and the last layers left alone: a layer joins while its likeness to the span's first is at least `threshold` and
// the span has fewer than `most` layers.
std::vector<LayerSpan> similarSpans(const SimilarityMap& map, SimilarityOf which, int first, int last, double threshold, int most);

}  // namespace winnow
