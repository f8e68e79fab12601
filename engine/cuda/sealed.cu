// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/sealed.cuh"

#include <cmath>

namespace winnow::cuda {
namespace {

PageJob jobOf(const PageArgs& args) {
  CHECK(args.headDim % 8 == 0 && args.headDim <= kMostHeadDim, args.headDim);
  PageJob job;
  job.page = layoutOf(args.pageTokens, args.headDim);
  job.keys = args.keys;
  job.values = args.values;
  job.keyForms = args.keyForms;
  job.valueForms = args.valueForms;
  job.slots = args.slots;
  job.tasks = args.tasks;
  return job;
}

}  // namespace

void sealPages(Stream stream, const PageArgs& args, int tasks) {
  launch("seal", stream, {dim3(static_cast<unsigned>(tasks)), dim3(kPageThreads)}, sealSlots, jobOf(args));
}

void openPages(Stream stream, const PageArgs& args, int tasks, bool hadamard) {
  PageJob job = jobOf(args);
  if (hadamard) job.hadamard = hadamardScale(args.headDim);
  launch("open", stream, {dim3(static_cast<unsigned>(tasks)), dim3(kPageThreads)}, openSlots, job);
}

size_t unpackedPages(int kvHeads, int pageTokens, int mostTokens) {
  return size_t{2} * static_cast<size_t>(kvHeads) * blocksFor(mostTokens, pageTokens);
}

KvTables unpackPages(Stream stream, const UnpackArgs& args) {
  UnpackJob job;
  job.page = layoutOf(args.kv.pageTokens, args.headDim);
  job.keys = args.kv.keys;
  job.values = args.kv.values;
  job.keyForms = args.kv.keyForms;
  job.valueForms = args.kv.valueForms;
  job.lengths = args.kv.lengths;
  job.rows = static_cast<uint32_t*>(args.rows);
  job.tables = args.tables;
  job.address = reinterpret_cast<uint64_t>(args.rows);
  job.pageStride = args.kv.pageStride;
  job.pages = static_cast<int>(blocksFor(args.mostTokens, args.kv.pageTokens));
  job.kvHeads = args.kvHeads;
  job.added = args.added;
  const Grid grid{dim3(static_cast<unsigned>(job.pages), static_cast<unsigned>(args.kvHeads), 2), dim3(kUnpackThreads)};
  launch("unpack", stream, grid, unpackSlots, job);
  KvTables out = args.kv;
  if (out.keys) out.keys = args.tables;
  out.values = args.tables + static_cast<int64_t>(args.kvHeads) * job.pages;
  out.pageStride = job.pages;
  out.keyForms = out.valueForms = nullptr;
  return out;
}

}  // namespace winnow::cuda
