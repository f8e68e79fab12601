// SPDX-License-Identifier: GPL-3.0-or-later
// The kernel table of the instruction set this file is compiled for.
#pragma once
#include "engine/cpu/attention.h"
#include "engine/cpu/packed.h"
#include "engine/cpu/peak.h"
#include "engine/cpu/perturb.h"
#include "engine/cpu/plain.h"
#include "engine/cpu/pointwise.h"
#include "engine/cpu/prune_rows.h"
#include "engine/cpu/rounding.h"
#include "engine/cpu/sealed.h"
#include "engine/cpu/update.h"

namespace winnow::cpu {
namespace {

constexpr KernelTable kTable = {
    .tokenBlock = kTokenBlock,
    .plain = {plainProduct<PlainFloat<kF32>, 4>, plainProduct<PlainFloat<kF16>, 2>, plainProduct<PlainFloat<kBf16>, 2>},
    .packed = WINNOW_PACKED_TABLE(PackedFloat),
    .packedInt8 = WINNOW_PACKED_TABLE(PackedInt8),
    .plainBf16 = nullptr,
    .packedPairs = {},
    .roundRow = roundRow,
    .chunkSums = chunkSums,
    .quantizeRow = quantizeRow,
    .bf16Row = nullptr,
    .pairsRow = nullptr,
    .rmsNorm = rmsNorm,
    .layerNorm = layerNorm,
    .rotate = rotate,
    .squash = squash,
    .toHalf = toHalf,
    .exponentials = exponentials,
    .logits = logits,
    .divergence = divergence,
    .scores = scores,
    .weighValues = weighValues,
    .softmaxPart = softmaxPart,
    .probabilities = probabilities,
    .transposeKeys = transposeKeys,
    .widenValues = widenValues,
    .smallProduct = smallProduct,
    .turnScaled = turnScaled,
    .perturb = perturb,
    .logarithms = logarithms,
    .unpackPage = unpackPage,
    .unpackPlanes = unpackPlanes,
    .scaleRow = scaleRow,
    .addScaled = addScaled,
    .allFinite = allFinite,
    .widenBf16 = widenBf16,
    .toBf16 = toBf16,
    .pruneBelow = pruneBelow,
    .rtnRow = rtnRow,
    .subtractProduct = subtractProduct,
    .peakFloat = peakFloat,
    .peakInt8 = peakInt8,
    .peakBf16 = nullptr,
    .readStream = readStream,
};

}  // namespace
}  // namespace winnow::cpu
