// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/kv_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "engine/core/check.h"
#include "engine/knobs/knobs.h"
#include "engine/weights/layer_rules.h"

namespace winnow {

std::span<const KvQuantizerInfo> kvQuantizers() {
  static const std::array<KvQuantizerInfo, 2> quantizers = {{
      {"per_token", "Keys and values per token", "", false},
      {"kivi", "KIVI: keys per channel, values per token", "Liu et al., ICML 2024, arXiv 2402.02750", true},
  }};
  return quantizers;
}

KvFormat KvFormat::of(const Config& config, int layers) {
  KvFormat format;
  format.keyBits = static_cast<int>(config.integer("kv.k_bits"));
  format.valueBits = static_cast<int>(config.integer("kv.v_bits"));
  const auto rules = parseLayerRules(config.text("kv.layers"), RuleValue::cache);
  for (int layer = 0; layer < layers && rules && !rules->empty(); ++layer) {
    const auto bits = [&](TensorRole role, int otherwise) {
      const auto match = matchLayerRules(*rules, role, layer, false);
      return match ? static_cast<int>(match->value) : otherwise;
    };
    format.layers.push_back({bits(TensorRole::k, format.keyBits), bits(TensorRole::v, format.valueBits)});
  }
  format.aligned = static_cast<int>(config.integer("kv.aligned"));
  if (format.quantizes()) format.outliers = config.real("kv.outliers");
  if (!format.quantizes(true)) return format;
  for (const KvQuantizerInfo& info : kvQuantizers())
    if (info.name == config.text("kv.quantizer")) format.keysPerChannel = info.keysPerChannel;
  format.rotateKeys = config.boolean("kv.rotate");
  return format;
}

bool KvFormat::quantizes(bool keys) const {
  if (layers.empty()) return bits(keys, 0) < 16;
  return std::ranges::any_of(layers, [&](const KvBits& layer) { return (keys ? layer.keys : layer.values) < 16; });
}

int KvFormat::bits(bool keys, int layer) const {
  if (layers.empty()) return keys ? keyBits : valueBits;
  const KvBits& own = layers[static_cast<size_t>(layer)];
  return keys ? own.keys : own.values;
}

PageForm KvFormat::form(bool keys, int layer, const PageShape& shape) const {
  PageForm form;
  form.bits = static_cast<uint8_t>(bits(keys, layer));
  if (form.bits == 16) {
    if (aligned > 0) form.planes = keys ? Planes::byChannel : Planes::byToken;
    return form;
  }
  form.outliers = static_cast<uint16_t>(outliersOf(outliers, shape.headDim));
  if (!keys || !keysPerChannel) return form;
  for (int end = shape.setTokens(); end <= shape.tokens; end += shape.setTokens()) form.ends[form.sets++] = static_cast<uint8_t>(end);
  return form;
}

int outliersOf(double share, int headDim) {
  return share > 0 ? std::clamp(static_cast<int>(std::lround(share * headDim)), 1, kMostOutliers) : 0;
}

std::optional<std::string> cannotSplit(const ModelConfig& model) {
  if (model.headDim >= 8 && model.headDim % 8 == 0) return std::nullopt;
  return "this model's heads have " + std::to_string(model.headDim) + " values: packing needs a multiple of 8.";
}

std::optional<std::string> cannotSeal(const ModelConfig& model) {
  const PageShape shape{64, model.headDim};
  const std::string has = "this model's heads have " + std::to_string(model.headDim) + " values: ";
  if (const auto reason = cannotSplit(model)) return reason;
  if (model.headDim % shape.group() != 0) return has + "groups of " + std::to_string(shape.group()) + " do not divide them.";
  return std::nullopt;
}

std::optional<std::string> cannotRotate(const ModelConfig& model) {
  if (std::has_single_bit(static_cast<unsigned>(model.headDim))) return std::nullopt;
  return "this model's heads have " + std::to_string(model.headDim) + " values: a Hadamard rotation needs a power of two.";
}

void rotateHadamard(float* x, int n) {
  CHECK(std::has_single_bit(static_cast<unsigned>(n)), n);
  for (int half = 1; half < n; half *= 2)
    for (int block = 0; block < n; block += 2 * half)
      for (int i = block; i < block + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
  const float scale = 1.0f / std::sqrt(static_cast<float>(n));
  for (int i = 0; i < n; ++i) x[i] *= scale;
}

}  // namespace winnow
