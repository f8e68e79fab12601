// SPDX-License-Identifier: GPL-3.0-or-later
// Values and outputs of heads in other coordinates, fewer than before: V' = F V and O' = O G of each head of keys and values, with the query heads
// that read it (MoDeGPT's module of values and outputs; pruning_sharing_attribution.md, D3, type III).
#pragma once
#include <span>
#include <string>
#include <vector>

#include "engine/core/threads.h"
#include "engine/model/model.h"

namespace winnow {

struct HeadFolds {
  int kvHeads = 0, group = 0;        // heads of keys and values, query heads to each
  int whole = 0, kept = 0;           // components of a head before and after
  std::vector<float> values;         // F [kvHeads, kept, whole]; empty in a plan
  std::vector<float> outputs;        // G transposed [kvHeads, kept, whole]
  std::string key;                   // identity
};

// Of one head of keys and values, with A = `spent` [n, n] the second moments of its values over a text and B = `wanted` [n, n] the sum over its query
// heads of O^T O: of rank k the best for the sum of squares of what O makes of the values. F and G^T as above, [k, n] each, are appended. Returns
// the singular values, [n] falling; the sum of the squares of those behind the first k is what is lost.
std::vector<double> foldHead(std::vector<double> spent, const std::vector<double>& wanted, int n, int k, std::vector<float>& values, std::vector<float>& outputs);

MasterTensor foldedShape(MasterTensor whole, const HeadFolds& folds);  // its extents alone: nothing to decode
// Rows [first, first + count) of the folded tensor, [count, cols] of foldedShape(). Thread-safe.
void readFolded(const MasterTensor& whole, const HeadFolds& folds, int first, int count, float* out);

// v, its bias or o of a layer: a master of its own, in f32. Throws std::bad_alloc.
class FoldedTensor {
 public:
  FoldedTensor(const MasterTensor& whole, const HeadFolds& folds, ThreadPool& pool);
  FoldedTensor(const FoldedTensor&) = delete;
  FoldedTensor& operator=(const FoldedTensor&) = delete;
  const MasterTensor& tensor() const { return tensor_; }

 private:
  MasterTensor tensor_;
  std::vector<float> values_;
};

}  // namespace winnow
