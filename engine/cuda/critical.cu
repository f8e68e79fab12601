// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/critical.cuh"

#include "engine/cuda/critical.h"

namespace winnow::cuda {

CriticalList chooseCritical(Stream stream, const CriticalArgs& args) {
  CHECK(args.headDim <= kMostHeadDim && args.before > 0 && args.count > 0, args.headDim, args.before, args.count);
  CHECK((args.before + kCriticalSlots - 1) / kCriticalSlots <= args.stride, args.before, args.stride);
  CriticalJob job;
  job.pages = pagesOf(args.kv);
  job.page = layoutOf(args.kv.pageTokens, args.headDim);
  job.forms = args.kv.keyForms;
  job.q = args.q;
  job.centers = args.centers;
  job.fresh = args.fresh;
  job.worth = args.worth;
  job.blocks = args.blocks;
  job.taken = args.taken;
  job.counts = args.counts;
  job.slots = args.slots;
  job.queries = args.queries;
  job.heads = args.heads;
  job.group = args.heads / args.kvHeads;
  job.headDim = args.headDim;
  job.before = args.before;
  job.count = args.count;
  job.stride = args.stride;
  job.window = args.slidingWindow;
  job.scale = args.scale;
  job.mixes = args.mixes;
  const auto heads = static_cast<unsigned>(args.kvHeads);
  launch("queryCenters", stream, {dim3(static_cast<unsigned>(args.heads)), dim3(kCenterThreads)}, queryCenters, job);
  const unsigned blocks = blocksFor((args.before + kCriticalSlots - 1) / kCriticalSlots, kWorthWarps);
  launch("blockWorths", stream, {dim3(blocks, heads), dim3(kWorthWarps * 32)}, blockWorths, job);
  launch("chooseBlocks", stream, {dim3(heads), dim3(kSelectThreads)}, chooseCriticalBlocks, job);
  return {args.blocks, args.counts, args.taken, args.stride, args.before};
}

}  // namespace winnow::cuda
