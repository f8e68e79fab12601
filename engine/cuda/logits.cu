// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/logits.cuh"

namespace winnow::cuda {

void scoreLogits(Stream stream, const float* logits, int64_t stride, int vocab, const int32_t* targets, int tokens, TokenScore* out) {
  launch("scoreLogits", stream, {dim3(static_cast<unsigned>(tokens)), dim3(kLogitsThreads)}, scoreRows, logits, stride, vocab, targets,
         out);
}

void compareLogits(Stream stream, const float* base, const float* other, int64_t stride, int vocab, const int32_t* targets, int tokens,
                   Divergence* out) {
  launch("compareLogits", stream, {dim3(static_cast<unsigned>(tokens)), dim3(kLogitsThreads)}, compareRows, base, other, stride, vocab,
         targets, out);
}

}  // namespace winnow::cuda
