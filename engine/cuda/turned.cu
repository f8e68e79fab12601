// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/turned.cuh"

#include "engine/cuda/turned.h"

namespace winnow::cuda {

KvTables turnPages(Stream stream, const TurnArgs& args) {
  CHECK(args.headDim <= kMostHeadDim && 2 * args.half <= args.headDim, args.headDim, args.half);
  CHECK(!args.kv.keyForms || args.forms);
  KvTables out = args.kv;
  if (args.within) out.positions = args.within, out.positionStride = 0;
  if (!args.kv.keys) return out;
  TurnJob job;
  job.pages = pagesOf(args.kv);
  job.page = layoutOf(args.kv.pageTokens, args.headDim);
  job.keyForms = args.kv.keyForms;
  job.frequencies = args.frequencies;
  job.rows = static_cast<uint16_t*>(args.rows);
  job.table = args.table;
  if (args.kv.keyForms) job.forms = args.forms;
  job.address = reinterpret_cast<uint64_t>(args.rows);
  if (args.hadamard) job.hadamard = hadamardScale(args.headDim);
  job.half = args.half;
  job.added = args.added;
  job.mostPages = static_cast<int>(blocksFor(args.mostTokens, args.kv.pageTokens));
  const Grid grid{dim3(static_cast<unsigned>(job.mostPages), static_cast<unsigned>(args.kvHeads)), dim3(kTurnWarps * 32)};
  launch("turn", stream, grid, turnKeys, job);
  out.keys = args.table;
  if (args.kv.keyForms) out.keyForms = args.forms;
  return out;
}

}  // namespace winnow::cuda
