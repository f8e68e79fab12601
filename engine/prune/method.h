// SPDX-License-Identifier: GPL-3.0-or-later
// A pruning method decides which weights of one matrix become zero. One method is one file and one line in registry.cpp.
// All linear layers of the blocks are pruned, never embeddings, head, norms (pruning_sharing_attribution.md, C).
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/method_input.h"

namespace winnow {

// N:M as the papers write it: of every M consecutive inputs N become zero (of an incomplete last group its share, rounded down).
struct PrunePattern {
  int zeros = 0, of = 0;  // of == 0: unstructured
  bool grouped() const { return of > 0; }
};
std::span<const std::string> prunePatterns();  // unstructured, 2:4, 4:8
PrunePattern parsePattern(std::string_view name);  // one of those

// With which weights a weight is compared.
enum class PruneScope : uint8_t { row, matrix };

struct PruneLevel {
  double ratio = 0;  // share of the weights that become zero, 0..1; a grouped pattern has its own
  PrunePattern pattern;
};

struct PruneMethod;
struct PruneInput {
  int rows = 0, cols = 0;
  PruneScope scope = PruneScope::row;
  MethodInput statistics;  // what the method asked for
  // Master rows as f32: out [count, cols]. Thread-safe.
  std::function<void(int row, int count, float* out)> decode;
  ThreadPool* pool = nullptr;  // null: on this thread alone
  const PruneMethod* initial = nullptr;  // whose mask a method that asks for gradients starts from
  double swapShare = 0;                  // of the weights that would change places, how many do; for the same methods
};

class Pruner {
 public:
  virtual ~Pruner() = default;
  // Zeroes what is to go in rows [firstRow, firstRow + count), given as decoded, and gives the rest its values. Deterministic, thread-safe.
  virtual void apply(float* rows /* [count, cols] */, int firstRow, int count) const = 0;
};

// What a method knows of one matrix at every ratio. It is kept while weights made from it are, so that a moved ratio measures nothing again.
class PruneScores {
 public:
  virtual ~PruneScores() = default;
  // `input` is the one it was prepared from. The pruner must not outlive the scores.
  virtual std::unique_ptr<Pruner> at(const PruneLevel& level, const PruneInput& input) const = 0;
};

struct PruneMethod {
  std::string name, title, paper;
  InputNeeds needs;
  PruneScope scope = PruneScope::row;  // the paper's
  // Memory that stays is posted to the ledger, under a planning one that is all it does.
  std::unique_ptr<PruneScores> (*prepare)(const PruneInput& input, Ledger& ledger);
  bool changesRest = false;  // weights that stay get other values
};

std::span<const PruneMethod> pruneMethods();
const PruneMethod* findPruneMethod(std::string_view name);

}  // namespace winnow
