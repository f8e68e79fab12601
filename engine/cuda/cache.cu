// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/cache.cuh"

#include "engine/cuda/rope_pairs.h"
#include "engine/cuda/sealed.h"

namespace winnow::cuda {

void prepareRotations(Stream stream, const float* frequencies, int dims, const int32_t* positionIds, int tokens, float* cosines,
                      float* sines) {
  const int half = dims / 2;
  launch("rotations", stream, {dim3(blocksFor(int64_t{half} * tokens, 128)), dim3(128)}, rotationTable, frequencies, half, positionIds,
         tokens, cosines, sines);
}

namespace {

void storeWith(Stream stream, const StoreArgs& args, float hadamard, const int32_t* pairs = nullptr) {
  CHECK(args.headDim <= kMostHeadDim && args.headDim % 2 == 0, args.headDim);
  CHECK(args.ropeDims % 2 == 0 && (pairs || args.ropeDims <= args.headDim), args.ropeDims);
  StoreJob job;
  job.q = args.q;
  job.k = args.k;
  job.v = args.v;
  job.qNorm = args.qNorm;
  job.kNorm = args.kNorm;
  job.cosines = args.cosines;
  job.sines = args.sines;
  job.positionIds = args.positionIds;
  job.recent = args.recent;
  job.recentRows = args.recentRows;
  job.tokens = args.tokens;
  job.pages = pagesOf(args.kv);
  job.eps = args.eps;
  job.hadamard = hadamard;
  job.heads = args.heads;
  job.kvHeads = args.kvHeads;
  job.headDim = args.headDim;
  job.pairs = pairs;
  job.half = (pairs ? args.headDim : args.ropeDims) / 2;
  job.table = args.ropeDims / 2;
  job.items = (args.q ? args.heads : 0) + (args.k ? args.kvHeads : 0) + (args.v ? args.kvHeads : 0);
  launch("store", stream, {dim3(blocksFor(job.items, kStoreWarps), static_cast<unsigned>(args.tokens)), dim3(kStoreWarps * 32)}, storeHeads,
         job);
}

}  // namespace

void rotateAndStore(Stream stream, const StoreArgs& args) { storeWith(stream, args, 0); }
void rotateAndStoreHadamard(Stream stream, const StoreArgs& args) { storeWith(stream, args, hadamardScale(args.headDim)); }

void rotatePairsAndStore(Stream stream, const StoreArgs& args, const int32_t* pairs, bool hadamard) { storeWith(stream, args, hadamard ? hadamardScale(args.headDim) : 0, pairs); }

void advance(Stream stream, int32_t* lengths, int count, int tokens) {
  launch("advance", stream, {dim3(blocksFor(count, 128)), dim3(128)}, advanceLengths, lengths, count, tokens);
}

void gatherSlots(Stream stream, const GatherArgs& args) {
  CHECK(args.headDim % 2 == 0, args.headDim);
  GatherJob job;
  job.pages = pagesOf(args.kv);
  job.keep = args.keep;
  job.kept = args.kept;
  job.keepStride = args.keepStride;
  job.columnSums = args.columnSums;
  job.columnStride = args.columnStride;
  job.headDim = args.headDim;
  launch("gather", stream, {dim3(static_cast<unsigned>(args.kvHeads), 3), dim3(kGatherThreads)}, gatherPages, job);
}

}  // namespace winnow::cuda
