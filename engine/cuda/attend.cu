// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/attend.cuh"

#include <algorithm>
#include <bit>

namespace winnow::cuda {
namespace {

int widthOf(int headDim) { return headDim % 8 == 0 ? 8 : 4; }  // components a lane reads at once
int chunksOf(int tokens) { return (tokens + kAttendChunk - 1) / kAttendChunk; }

AttendJob jobOf(const AttendArgs& args) {
  AttendJob job;
  job.pages = pagesOf(args.kv);
  job.layout = layoutOf(args.kv.pageTokens, args.headDim);
  job.keyForms = args.kv.keyForms;
  job.valueForms = args.kv.valueForms;
  job.q = args.q;
  job.chunks = chunksOf(args.mostTokens);
  job.partial = args.partial;
  job.states = args.partial + static_cast<int64_t>(args.heads) * job.chunks * args.headDim;
  job.out = args.out;
  job.tickets = args.tickets;
  job.probabilities = args.probabilities;
  job.reuse = args.reuse;
  job.reuseHeads = args.reuseHeads;
  job.stride = args.probabilityStride;
  job.heads = args.heads;
  job.group = args.heads / args.kvHeads;
  job.headDim = args.headDim;
  job.lanes = static_cast<int>(std::bit_ceil(static_cast<unsigned>(args.headDim / widthOf(args.headDim))));
  job.added = args.added;
  job.window = args.slidingWindow;
  job.aligned = args.aligned;
  job.unread = args.unread;
  job.unreadStride = args.unreadStride;
  job.scale = args.scale;
  return job;
}

template <int width, int reads>
void launchChunks(Stream stream, const Grid& grid, const AttendJob& job, const AttendArgs& args) {
  if (args.reuse) return launch("attendReuse", stream, grid, attendChunk<width, false, true, reads>, job);
  if (args.probabilities) return launch("attend", stream, grid, attendChunk<width, true, false, reads>, job);
  launch("attend", stream, grid, attendChunk<width, false, false, reads>, job);
}
void launchChunks(Stream stream, const Grid& grid, const AttendJob& job, const AttendArgs& args) {
  const bool wide = widthOf(args.headDim) == 8;
  if (!args.kv.valueForms) return wide ? launchChunks<8, kRows>(stream, grid, job, args) : launchChunks<4, kRows>(stream, grid, job, args);
  CHECK(wide && args.kv.pageTokens >= kLeastPage && kAttendChunk % args.kv.pageTokens == 0, args.headDim, args.kv.pageTokens);
  CHECK(args.reuse || args.kv.keyForms);
  args.aligned > 0 ? launchChunks<8, kAligned>(stream, grid, job, args) : launchChunks<8, kSealed>(stream, grid, job, args);
}

}  // namespace

// Rows begin at multiples of what a lane reads, and one warp holds a row.
bool attendSupports(int headDim) { return headDim > 0 && headDim <= kMostHeadDim && headDim % 4 == 0 && headDim / widthOf(headDim) <= 32; }

size_t decodeScratchFloats(int heads, int headDim, int mostTokens) {
  return static_cast<size_t>(heads) * static_cast<size_t>(chunksOf(mostTokens)) * static_cast<size_t>(headDim + 2);
}

void attendDecode(Stream stream, const AttendArgs& args) {
  CHECK(attendSupports(args.headDim), args.headDim);
  CHECK(args.kvHeads > 0 && args.heads % args.kvHeads == 0, args.heads, args.kvHeads);
  CHECK(args.queries == 1 && args.partial && args.tickets, args.queries);
  CHECK(args.reuse || args.q);
  CHECK(!(args.reuse || args.probabilities) || args.probabilityStride >= args.mostTokens, args.probabilityStride, args.mostTokens);
  CHECK(!args.columnSums || args.reuse || args.probabilities, "column sums are made from the probabilities");
  const AttendJob job = jobOf(args);
  const size_t factorBytes = static_cast<size_t>(job.chunks) * static_cast<size_t>(std::min(job.group, kAttendHeads)) * sizeof(float);
  const Grid grid{dim3(static_cast<unsigned>(job.chunks), static_cast<unsigned>(args.kvHeads), blocksFor(job.group, kAttendHeads)),
                  dim3(kAttendThreads), job.chunks <= kFactorsInSums ? 0 : factorBytes};
  launchChunks(stream, grid, job, args);
  if (!args.columnSums) return;
  launch("columnSums", stream, {dim3(blocksFor(args.mostTokens, 128), static_cast<unsigned>(args.kvHeads)), dim3(128)}, addColumnSums,
         args.reuse ? args.reuse : args.probabilities, args.probabilityStride, job.pages, args.added, job.group, args.columnSums,
         args.columnStride);
}

}  // namespace winnow::cuda
