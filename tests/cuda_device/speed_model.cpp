// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/cuda_device/speed_model.h"

#include "engine/knobs/knobs.h"
#include "engine/quantize/code_format.h"

namespace winnow::device_run {
namespace {

struct Memory {
  cuda::DeviceBuffer codes, scales, mins;
};

}  // namespace

std::string formatBits(const std::string& format) { return format == "q8" ? "8" : format == "q4" ? "4" : ""; }

Converted RandomPlace::make(const WeightWork& work, WeightVersion& out) {
  auto memory = std::make_shared<Memory>();
  Matrix& m = out.matrix;
  m.format = work.recipe.format;
  m.rows = static_cast<int>(work.tensor.rows);
  m.cols = static_cast<int>(work.tensor.cols);
  const bool packed = m.format.storage == Storage::packed;
  const size_t codes = packed ? m.format.codeBytes(m.rows, m.cols) : m.bytes(), scales = packed ? m.format.scaleBytes(m.rows, m.cols) : 0;
  memory->codes = cuda::DeviceBuffer(ledger_, MemoryTag::weights, codes);
  ++seed_;
  if (packed) {
    const auto count = static_cast<int64_t>(scales / sizeof(uint16_t));
    cuda::fillBits(stream_, memory->codes.as<void>(), codes, seed_);
    memory->scales = cuda::DeviceBuffer(ledger_, MemoryTag::weights, scales);
    const float size = 2.0f / static_cast<float>(1 << m.format.bits) / std::sqrt(static_cast<float>(m.cols));
    cuda::fillUniform(stream_, memory->scales.as<void>(), Storage::f16, count, 0.5f * size, size, seed_);
    if (!m.format.symmetric) {
      memory->mins = cuda::DeviceBuffer(ledger_, MemoryTag::weights, scales);
      cuda::fillUniform(stream_, memory->mins.as<void>(), Storage::f16, count, -size * static_cast<float>(1 << (m.format.bits - 1)), 0, seed_);
    }
  } else if (m.rows == 1) {  // gains
    cuda::fillUniform(stream_, memory->codes.as<void>(), m.format.storage, m.cols, 0.9f, 1.1f, seed_);
  } else {
    const float size = 1.7f / std::sqrt(static_cast<float>(m.cols));
    cuda::fillUniform(stream_, memory->codes.as<void>(), m.format.storage, int64_t{m.rows} * m.cols, -size, size, seed_);
  }
  m.data = memory->codes.as<void>();
  m.scales = memory->scales.as<uint16_t>();
  m.mins = memory->mins.as<uint16_t>();
  out.memory = memory;
  cuda::wait(stream_);
  return Converted::done;
}

SpeedModel::SpeedModel(const std::string& shape, const std::string& format, int context, int batch, PrefillTwin twin)
    : model(test::randomModel(test::named(shape).config, DType::bf16, true)),
      device(test::value(openCudaDevice(model->config(), ledger))),
      store(model, std::make_unique<RandomPlace>(ledger, stream.get())),
      weights(build(format)),
      plan(buildPlan(model->config(), noSharing(model->config().layers))),
      backend(device->makeBackend(ledger, pool, {batch, context, int64_t{256} << 20})),
      cache(backend->makeCache(context)) {
  backend->keepTwins(*weights, twin);
}

std::shared_ptr<const WeightSet> SpeedModel::build(const std::string& format) {
  config = Config();
  if (!formatBits(format).empty()) config = test::value(config.parsed("weights.bits", formatBits(format)));
  if (findCodeFormat(format)) config = test::value(config.parsed("weights.format", format));
  config = resolve(config, model->config()).config;
  return test::value(store.build(weightTarget(*model, config, ""), pool, {}, {}));
}

void SpeedModel::fillCache(int tokens) {
  auto& pages = dynamic_cast<cuda::DeviceKvCache&>(*cache);
  const ModelConfig& c = model->config();
  pages.clear();
  pages.reserve(tokens);
  pages.prepare();
  const int64_t pageValues = int64_t{pages.pageTokens()} * c.headDim;
  for (int layer = 0; layer < c.layers; ++layer) {
    const cuda::KvTables tables = pages.tables(layer, layer);
    std::vector<uint64_t> addresses(static_cast<size_t>(c.kvHeads) * static_cast<size_t>(tables.pageStride));
    const int used = (tokens + tables.pageTokens - 1) / tables.pageTokens;
    for (const uint64_t* table : {tables.keys, tables.values}) {
      if (cudaMemcpy(addresses.data(), table, addresses.size() * sizeof(uint64_t), cudaMemcpyDeviceToHost) != cudaSuccess) throw std::runtime_error("reading page tables");
      for (int h = 0; h < c.kvHeads; ++h)
        for (int p = 0; p < used; ++p)
          cuda::fillUniform(stream.get(), reinterpret_cast<void*>(addresses[static_cast<size_t>(h * tables.pageStride + p)]), Storage::f16, pageValues, -1, 1,
                            static_cast<uint32_t>((layer * c.kvHeads + h) * used + p));
    }
  }
  cuda::advance(stream.get(), pages.lengths(), pages.heads(), tokens);
  cuda::wait(stream.get());
  pages.appended(0, tokens);
  fed = tokens;
}

double SpeedModel::step(std::vector<OpTime>* times) {
  const auto start = std::chrono::steady_clock::now();
  const auto token = static_cast<int32_t>((fed * 7919) % model->config().vocab);
  cache->reserve(1);
  const SequenceRows row{cache.get(), fed, 1};
  ForwardInput input{plan, *weights, {&row, 1}, {&token, 1}};
  input.times = times;
  backend->run(input);
  ++fed;
  return millisecondsSince(start);
}

double SpeedModel::prefill(int count, int depth) {
  cache->clear();
  fed = 0;
  if (depth > 0) fillCache(depth);
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((int64_t{i} * 7919 + 13) % model->config().vocab));
  cache->reserve(count);
  const SequenceRows row{cache.get(), fed, count};
  const auto start = std::chrono::steady_clock::now();
  backend->run({plan, *weights, {&row, 1}, tokens, activations});
  fed += count;
  return millisecondsSince(start);
}

int64_t SpeedModel::weightBytes() const {
  int64_t bytes = 0;
  for (size_t i = 0; i < weights->versions.size(); ++i) {
    const Matrix& m = weights->versions[i]->matrix;
    const TensorRole role = model->tensors()[i].role;
    if (role == TensorRole::tokenEmbedding && &m != weights->head) continue;  // one row
    if (role == TensorRole::positionEmbedding) continue;
    bytes += static_cast<int64_t>(m.bytes());
  }
  return bytes;
}

int64_t SpeedModel::kvBytes() const {
  const ModelConfig& c = model->config();
  return int64_t{2} * c.layers * c.kvRows() * static_cast<int64_t>(sizeof(uint16_t)) * fed;
}

}  // namespace winnow::device_run
