// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/selected.cuh"

#include <algorithm>

#include "engine/cuda/selected.h"

namespace winnow::cuda {

void takeBounds(Stream stream, const BoundArgs& args) {
  CHECK(args.kv.pageTokens % kBlockSlots == 0 && args.kv.keys, args.kv.pageTokens);
  CHECK(args.end <= args.blockStride, args.end, args.blockStride);
  BoundJob job;
  job.pages = pagesOf(args.kv);
  job.page = layoutOf(args.kv.pageTokens, args.headDim);
  job.forms = args.kv.keyForms;
  job.bounds = args.bounds;
  job.first = args.first;
  job.end = args.end;
  job.blockStride = args.blockStride;
  const Grid grid{dim3(blocksFor(args.end - args.first, kBoundWarps), static_cast<unsigned>(args.kvHeads)), dim3(kBoundWarps * 32)};
  launch("bounds", stream, grid, boundBlocks, job);
}

void selectBlocks(Stream stream, const SelectArgs& args) {
  constexpr unsigned kMostThreadBlocks = 64;  // of a head: each warp then scores several, as one of them goes on alone
  CHECK(args.headDim % 4 == 0 && args.headDim <= kMostHeadDim, args.headDim);
  CHECK(args.budget > 0 && args.chosen.most == mostBlocksRead(args.budget, args.mostTokens), args.budget, args.chosen.most);
  SelectJob job;
  job.pages = pagesOf(args.kv);
  job.q = args.q;
  job.bounds = args.bounds;
  job.scores = args.scores;
  job.blocks = args.chosen.blocks;
  job.slots = args.chosen.slots;
  job.tickets = args.tickets;
  job.budget = args.budget;
  job.blockStride = args.blockStride;
  job.scoreStride = blocksOf(args.mostTokens);
  job.most = args.chosen.most;
  job.group = args.heads / args.kvHeads;
  job.headDim = args.headDim;
  job.added = args.added;
  job.window = args.slidingWindow;
  const unsigned blocks = std::min(blocksFor(job.scoreStride, kSelectWarps), kMostThreadBlocks);
  launch("select", stream, {dim3(blocks, static_cast<unsigned>(args.kvHeads)), dim3(kSelectThreads)}, scoreAndChoose, job);
}

KvTables placeBlocks(Stream stream, const PlaceArgs& args) {
  CHECK(args.rows || !args.kv.valueForms);
  PlaceJob job;
  job.pages = pagesOf(args.kv);
  job.page = layoutOf(args.kv.pageTokens, args.headDim);
  job.keyForms = args.kv.keyForms;
  job.valueForms = args.kv.valueForms;
  job.blocks = args.chosen.blocks;
  job.slots = args.chosen.slots;
  job.rows = static_cast<uint32_t*>(args.rows);
  job.tables = args.tables;
  job.positions = args.positions;
  job.address = reinterpret_cast<uint64_t>(args.rows);
  job.most = args.chosen.most;
  job.kvHeads = args.kvHeads;
  const Grid grid{dim3(static_cast<unsigned>(job.most), static_cast<unsigned>(args.kvHeads), 2), dim3(kPlaceThreads)};
  launch("place", stream, grid, placeChosen, job);
  KvTables out;
  if (args.kv.keys) out.keys = args.tables;
  out.values = args.tables + static_cast<int64_t>(args.kvHeads) * job.most;
  out.pageStride = job.most;
  out.pageTokens = kBlockSlots;
  out.lengths = args.chosen.slots;
  out.positions = args.positions;
  out.positionStride = int64_t{job.most} * kBlockSlots;
  return out;
}

}  // namespace winnow::cuda
