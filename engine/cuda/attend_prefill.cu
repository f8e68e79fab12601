// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/attend_prefill.cuh"
#include "engine/cuda/critical.h"

namespace winnow::cuda {
namespace {

PrefillJob jobOf(const AttendArgs& args, const CriticalList& critical) {
  PrefillJob job;
  job.pages = pagesOf(args.kv);
  job.q = args.q;
  job.out = args.out;
  if (args.probabilities || args.columnSums) job.states = args.states;
  job.probabilities = args.probabilities;
  job.reuse = args.reuse;
  job.reuseHeads = args.reuseHeads;
  job.columnSums = args.columnSums;
  job.blocks = critical.blocks;
  job.counts = critical.counts;
  job.taken = critical.taken;
  job.blockStride = critical.stride;
  job.before = critical.before;
  job.stride = args.probabilityStride;
  job.columnStride = args.columnStride;
  job.queries = args.queries;
  job.heads = args.heads;
  job.group = args.heads / args.kvHeads;
  job.headDim = args.headDim;
  job.added = args.added;
  job.window = args.slidingWindow;
  job.scale = args.scale;
  return job;
}

template <int dim, int pieces, bool reuse, bool listed>
void launchRows(Stream stream, const PrefillJob& job, const AttendArgs& args) {
  const Grid grid{dim3(blocksFor(int64_t{args.queries} * job.group, kPrefillRows), static_cast<unsigned>(args.kvHeads)),
                  dim3(kPrefillThreads), PrefillTiles<dim, pieces>::kBytes};
  launch(reuse ? "attendReuse" : "attendRows", stream, grid, listed ? attendListed<dim, pieces, reuse> : attendRows<dim, pieces, reuse>, job);
}

template <int dim, int pieces, bool listed>
void launchTaps(Stream stream, const PrefillJob& job, const AttendArgs& args) {
  if (!args.probabilities && !args.columnSums) return;
  const int64_t slots = args.probabilities ? args.probabilityStride : args.mostTokens;
  const Grid grid{dim3(blocksFor(slots, kPrefillSlots), static_cast<unsigned>(args.kvHeads)), dim3(kPrefillThreads),
                  PrefillTiles<dim, pieces>::kTapBytes};
  launch("attendTaps", stream, grid, listed ? attendListedTaps<dim, pieces> : attendTaps<dim, pieces>, job);
}

template <int dim, bool listed>
void attendSlots(Stream stream, const PrefillJob& job, const AttendArgs& args) {
  if (args.reuse) return launchRows<dim, 2, true, listed>(stream, job, args);
  if (args.precise) {
    launchRows<dim, 2, false, listed>(stream, job, args);
    return launchTaps<dim, 2, listed>(stream, job, args);
  }
  launchRows<dim, 1, false, listed>(stream, job, args);
  launchTaps<dim, 1, listed>(stream, job, args);
}
template <int dim>
void attendDim(Stream stream, const PrefillJob& job, const AttendArgs& args) {
  (job.blocks ? attendSlots<dim, true> : attendSlots<dim, false>)(stream, job, args);
}

}  // namespace

void attendPrefill(Stream stream, const AttendArgs& args) { attendPrefill(stream, args, {}); }

void attendPrefill(Stream stream, const AttendArgs& args, const CriticalList& critical) {
  CHECK(attendSupports(args.headDim), args.headDim);
  CHECK(args.kvHeads > 0 && args.heads % args.kvHeads == 0, args.heads, args.kvHeads);
  CHECK(args.queries > 0 && (args.reuse || (args.q && args.kv.keys)), args.queries);
  CHECK(!(args.reuse || args.probabilities) || args.probabilityStride >= args.mostTokens, args.probabilityStride, args.mostTokens);
  CHECK(!args.reuse || !(args.probabilities || args.columnSums), "a follower's probabilities are its leader's");
  CHECK(!(args.probabilities || args.columnSums) || args.states);
  const PrefillJob job = jobOf(args, critical);
  if (args.headDim <= 64) return attendDim<64>(stream, job, args);
  if (args.headDim <= 128) return attendDim<128>(stream, job, args);
  attendDim<256>(stream, job, args);
}

}  // namespace winnow::cuda
