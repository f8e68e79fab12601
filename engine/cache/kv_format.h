// SPDX-License-Identifier: GPL-3.0-or-later
// In what form full pages are kept. One quantizer is one line in kv_format.cpp.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/cache/page_form.h"
#include "engine/model/config.h"

namespace winnow {

class Config;

struct KvQuantizerInfo {
  std::string name, title, paper;
  bool keysPerChannel = false;  // else keys, like values, have their scales per token
};
std::span<const KvQuantizerInfo> kvQuantizers();  // "per_token" first

struct KvBits {
  int keys = 16, values = 16;
  bool operator==(const KvBits&) const = default;
};

struct KvFormat {
  int keyBits = 16, valueBits = 16;
  bool keysPerChannel = false;
  bool rotateKeys = false;       // keys and queries pass a Hadamard matrix: the same scores, flatter keys
  double outliers = 0;           // share of a row's values that stay f16 beside its codes
  int aligned = 0;               // binades: keys and values of 16 bits lie in planes and are read as far as needed (engine/cache/planes.h)
  std::vector<KvBits> layers{};  // [layers] where they differ (kv.layers); empty: keyBits and valueBits in all
  bool operator==(const KvFormat&) const = default;

  static KvFormat of(const Config& config, int layers);  // effective
  bool quantizes() const { return quantizes(true) || quantizes(false); }  // in any layer
  bool quantizes(bool keys) const;
  bool seals() const { return quantizes() || aligned > 0; }
  int bits(bool keys, int layer) const;
  // Of a page whose slots are sealed together.
  PageForm form(bool keys, int layer, const PageShape& shape) const;
};

// Values a row keeps of a share above 0: at least one.
int outliersOf(double share, int headDim);

// Why heads of this size can't be quantized, split or rotated; nullopt when they can.
std::optional<std::string> cannotSeal(const ModelConfig& model);
std::optional<std::string> cannotSplit(const ModelConfig& model);  // into planes
std::optional<std::string> cannotRotate(const ModelConfig& model);

// x becomes H x with H the normalized Hadamard matrix, its own inverse. n is a power of two.
void rotateHadamard(float* x, int n);

}  // namespace winnow
