// SPDX-License-Identifier: GPL-3.0-or-later
// What a session can be asked about itself.
#include <algorithm>

#include "engine/core/check.h"
#include "engine/run/session_impl.h"

namespace winnow {

void Session::Impl::refreshCosts() {
  weightMemory.set(std::make_shared<MemoryByTag>(weights->memory(plan)));
  weightBytes = 0;
  for (size_t i = 0; i < weights->versions.size(); ++i) {
    const MasterTensor& tensor = core->model->tensors()[i];
    const Matrix& matrix = weights->versions[i]->matrix;
    if (plan.skips(tensor.role, tensor.layer)) continue;
    // One row is looked up in the embeddings; a tied head reads the whole of the matrix besides.
    const bool looked = tensor.role == TensorRole::tokenEmbedding || tensor.role == TensorRole::positionEmbedding;
    const auto bytes = static_cast<int64_t>(matrix.bytes()) + weights->versions[i]->error.bytes();
    weightBytes += looked ? bytes / matrix.rows : bytes;
    if (&matrix == weights->head && looked) weightBytes += bytes;
  }
  for (const auto& version : weights->added) weightBytes += static_cast<int64_t>(version->matrix.bytes());
}

void Session::observeOps(bool on) {
  impl_->observing = on;
  impl_->opTimes.clear();
}
void Session::observeAttention(AttentionTap* tap) { impl_->attention = tap; }
std::span<const OpTime> Session::opTimes() const { return impl_->opTimes; }

std::vector<EngineEvent> Session::takeEvents() { return std::exchange(impl_->events, {}); }

MemoryByTag Session::memory() const {
  MemoryByTag out = impl_->ledger.snapshot();
  const auto weights = impl_->weightMemory.get();
  const MemoryByTag beside = impl_->backend->memory();
  for (size_t tag = 0; tag < out.size(); ++tag) out[tag] += (*weights)[tag] + beside[tag];
  out[static_cast<size_t>(MemoryTag::calibration)] += impl_->core->ledger.bytes(MemoryTag::calibration);
  return out;
}

CacheStats Session::cache() const {
  const KvCache& cache = *impl_->cache;
  const int64_t heads = std::max<int64_t>(int64_t{cache.heldLayers()} * cache.kvHeads(), 1);
  int64_t slots = 0;
  for (int layer = 0; layer < cache.layers(); ++layer) slots += cache.slotsSeen(layer);
  CacheStats stats;
  stats.liveTokens = (slots + heads / 2) / heads;
  stats.evictedTokens = cache.heldLayers() > 0 ? impl_->fed - stats.liveTokens : 0;
  stats.allocatedBytes = cache.allocatedBytes();
  stats.liveBytes = cache.liveBytes();
  stats.unsealedBytes = cache.unsealedBytes();
  return stats;
}

std::vector<HeadPositions> Session::occupancy() const {
  std::vector<HeadPositions> out;
  const KvCache& cache = *impl_->cache;
  for (int layer = 0; layer < cache.layers(); ++layer)
    for (int head = 0; head < cache.kvHeads() && cache.holds(layer); ++head) {
      const auto positions = cache.positions(layer, head);
      out.push_back({layer, head, cache.ownsKeys(layer), {positions.begin(), positions.end()}});
    }
  return out;
}

const Plan& Session::plan() const { return impl_->plan; }
int Session::streamWidth() const { return impl_->weights->streamWidth(impl_->model); }
int Session::ffnWidth(int layer) const {
  const Matrix* up = impl_->weights->layers[static_cast<size_t>(layer)].up;
  return up ? up->rows : 0;
}
uint64_t Session::logitsHash() const { return impl_->hash; }
int Session::threads() const { return impl_->pool.threads(); }

void Session::scoreLogits(const float* logits, std::span<const int32_t> targets, TokenScore* out) { impl_->backend->score(logits, targets, out); }
void Session::compareLogits(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out) {
  impl_->backend->compare(base, other, targets, out);
}
int32_t Session::sample(std::span<const int32_t> history, const SamplerSettings& settings) {
  return impl_->backend->sample(history, settings, static_cast<uint64_t>(impl_->fed));
}
double Session::measureReadBandwidth(size_t bytes) { return impl_->backend->readBandwidth(bytes); }
double Session::measurePeak(Storage storage, ActivationMode mode, int bits) { return impl_->backend->peak(storage, mode, bits); }

int64_t Session::weightBytesPerToken() const { return impl_->weightBytes - impl_->sparsity.bytesSkipped(); }

int64_t Session::kvBytesPerToken() const {
  int64_t bytes = 0;
  for (int layer = 0; layer < impl_->model.layers; ++layer) bytes += impl_->cache->readBytes(impl_->plan.sourceOf(layer), true, 1) - impl_->cache->unread(layer);
  return bytes;
}

const SparseUse& sparseUse(const Session& session) { return EngineCore::inside(session).sparsity.use(); }

}  // namespace winnow
