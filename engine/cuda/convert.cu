// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/convert.cuh"

#include "engine/cuda/convert_codes.h"

namespace winnow::cuda {
namespace {

template <Storage storage, int bits>
void launchQuantize(Stream stream, const Grid& grid, const QuantizeJob& job, bool symmetric) {
  if (symmetric)
    launch("quantizeRtn", stream, grid, quantizeGroups<storage, bits, true>, job);
  else
    launch("quantizeRtn", stream, grid, quantizeGroups<storage, bits, false>, job);
}

template <Storage storage>
void launchQuantize(Stream stream, const Grid& grid, const QuantizeJob& job, const WeightFormat& format) {
  switch (format.bits) {
    case 2: return launchQuantize<storage, 2>(stream, grid, job, format.symmetric);
    case 3: return launchQuantize<storage, 3>(stream, grid, job, format.symmetric);
    case 4: return launchQuantize<storage, 4>(stream, grid, job, format.symmetric);
    case 5: return launchQuantize<storage, 5>(stream, grid, job, format.symmetric);
    case 6: return launchQuantize<storage, 6>(stream, grid, job, format.symmetric);
    default: CHECK(format.bits == 8, format.bits); return launchQuantize<storage, 8>(stream, grid, job, format.symmetric);
  }
}

}  // namespace

void findNotFinite(Stream stream, const void* values, Storage storage, int64_t count, int32_t* flag) {
  const Grid grid{dim3(blocksFor(count, int64_t{kValueThreads} * kValuesPerThread)), dim3(kValueThreads)};
  const auto* f32 = storage == Storage::f32 ? static_cast<const float*>(values) : nullptr;
  const auto* half = storage == Storage::f32 ? nullptr : static_cast<const uint16_t*>(values);
  switch (storage) {
    case Storage::f32: return launch("notFinite", stream, grid, notFinite<Storage::f32>, f32, half, count, flag);
    case Storage::f16: return launch("notFinite", stream, grid, notFinite<Storage::f16>, f32, half, count, flag);
    default: CHECK(storage == Storage::bf16); return launch("notFinite", stream, grid, notFinite<Storage::bf16>, f32, half, count, flag);
  }
}

void narrow(Stream stream, const float* values, int64_t count, Storage storage, void* out) {
  const Grid grid{dim3(blocksFor(count, int64_t{kValueThreads} * kValuesPerThread)), dim3(kValueThreads)};
  auto* f32 = storage == Storage::f32 ? static_cast<float*>(out) : nullptr;
  auto* half = storage == Storage::f32 ? nullptr : static_cast<uint16_t*>(out);
  switch (storage) {
    case Storage::f32: return launch("narrow", stream, grid, narrowValues<Storage::f32>, values, count, f32, half);
    case Storage::f16: return launch("narrow", stream, grid, narrowValues<Storage::f16>, values, count, f32, half);
    default: CHECK(storage == Storage::bf16); return launch("narrow", stream, grid, narrowValues<Storage::bf16>, values, count, f32, half);
  }
}

void quantizeRtn(Stream stream, const void* rows, Storage storage, int firstRow, int count, const MatrixArgs& out) {
  CHECK(out.format.storage == Storage::packed && firstRow % 16 == 0 && count > 0 && firstRow + count <= out.rows, firstRow, count,
        out.rows);
  const MatrixView view = viewOf(out);
  QuantizeJob job;
  if (storage == Storage::f32)
    job.f32 = static_cast<const float*>(rows);
  else
    job.half = static_cast<const uint16_t*>(rows);
  job.codes = static_cast<uint32_t*>(const_cast<void*>(out.data));
  job.scales = const_cast<uint16_t*>(out.scales);
  job.mins = const_cast<uint16_t*>(out.mins);
  job.steps = reinterpret_cast<uint16_t*>(const_cast<uint8_t*>(out.steps));
  job.firstTile = firstRow / 16;
  job.count = count;
  job.cols = out.cols;
  job.chunks = view.chunks;
  job.groups = view.groups;
  job.groupChunks = view.groupChunks;
  const unsigned tiles = blocksFor(count, 16);
  CHECK(tiles <= 65535, count);
  const Grid grid{dim3(static_cast<unsigned>(view.groups), tiles), dim3(128)};
  if (out.format.code != Code::integer) return quantizeCodes(stream, grid, job, storage, out.format.code);
  switch (storage) {
    case Storage::f32: return launchQuantize<Storage::f32>(stream, grid, job, out.format);
    case Storage::f16: return launchQuantize<Storage::f16>(stream, grid, job, out.format);
    default: CHECK(storage == Storage::bf16); return launchQuantize<Storage::bf16>(stream, grid, job, out.format);
  }
}

}  // namespace winnow::cuda
