// SPDX-License-Identifier: GPL-3.0-or-later
// What a layer that reads the keys and values of another (CLA, Brandon et al. 2024, arXiv 2405.12981) makes of them without training
// (pruning_sharing_attribution.md, A2): for each kv head a ridge map from those of the owner to what its own would have been, k ~ M s and v ~ N s,
// each held to the identity, so that the sum of squares it lowers can't rise above that of what is borrowed as it is. Nothing of it is paid when the
// model runs: attention adds values up, so N goes into the output projection; q . (M s) = (M^T q) . s, so M goes into the projection of queries.
// Keys are rotated between that projection and the product. So M has to commute with all rotations: of each RoPE pair it is one complex number, a turn
// and a scale; only among components that are not rotated, of GPT-2 all, it is any map. A constant in those changes no softmax: they are compared
// about their means. Where queries are normed (Qwen3) the norm lies between, and keys stay as they are.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/model/config.h"
#include "engine/share/refit.h"

namespace winnow {

// Keys before rotation, or values, of the same tokens.
struct BorrowedRows {
  const float* own;       // [tokens, kvHeads * headDim] that the layer would have made
  const float* borrowed;  // [tokens, kvHeads * headDim] that it reads
  int64_t tokens;
};
using HeadMaps = std::vector<float>;  // [kvHeads][headDim, headDim], rows of M or N

bool mapsKeys(const ModelConfig& model);

// Where moments can't be factored a head keeps the identity. Refit::cancelled or done; the result does not depend on threads. Throws std::bad_alloc.
Refit fitKeyMaps(const ModelConfig& model, const BorrowedRows& keys, double damping, Ledger& ledger, ThreadPool& pool, const Progress& progress, HeadMaps& maps);
Refit fitValueMaps(const ModelConfig& model, const BorrowedRows& values, double damping, Ledger& ledger, ThreadPool& pool, const Progress& progress, HeadMaps& maps);

// M^T of each head of queries: of their projection [heads * headDim, cols], of its bias with one column.
void foldIntoQueries(const ModelConfig& model, const HeadMaps& maps, const float* queries, int64_t cols, float* out);
// N of each head that is read: of the output projection [rows, heads * headDim] (its columns), and of what it reads [tokens, heads * headDim].
void foldIntoOutput(const ModelConfig& model, const HeadMaps& maps, const float* output, int64_t rows, float* out);
void mapHeads(const ModelConfig& model, const HeadMaps& maps, float* heads, int64_t tokens);

}  // namespace winnow
