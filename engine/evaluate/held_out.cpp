// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/held_out.h"

#include <algorithm>
#include <fstream>
#include <string_view>

#include "engine/prune/head_dims.h"
#include "engine/prune/heads.h"
#include "engine/prune/method.h"
#include "engine/prune/width.h"
#include "engine/quantize/method.h"
#include "engine/recover/method.h"

namespace winnow {
namespace {

constexpr size_t kPassage = 200, kPassages = 16;  // bytes; how many are looked for, evenly spread
constexpr int64_t kBytesPerToken = 6;             // what is read of the text at most, generously

bool calibrated(const Config& config) {
  const PruneMethod* prune = config.real("prune.ratio") > 0 || !config.text("prune.ratios").empty() ? findPruneMethod(config.text("prune.method")) : nullptr;
  const QuantizeMethod* method = findQuantizeMethod(config.text("weights.method"));
  const WidthMethod* width = config.real("prune.width") > 0 ? findWidthMethod(config.text("prune.width_method")) : nullptr;
  const HeadMethod* heads = config.real("prune.heads") > 0 ? findHeadMethod(config.text("prune.heads_method")) : nullptr;
  const HeadDimMethod* headDim = config.real("prune.head_dim") > 0 ? findHeadDimMethod(config.text("prune.head_dim_method")) : nullptr;
  const RecoveryMethod* recovery = prune || width || heads || headDim ? findRecoveryMethod(config.text("prune.recovery")) : nullptr;
  return config.real("prune.slice") > 0 || config.integer("prune.layers") > 0 || recovery || (heads && heads->measures()) || (headDim && headDim->moments) || (prune && prune->needs.any()) || (width && (width->needs.any() || width->shares)) || (method && (method->needs.any() || config.integer("weights.error_rank") > 0));
}

}  // namespace

Status heldOut(const Config& effective, const std::string& evaluated) {
  const std::string& path = effective.text("calibration.text");
  if (path.empty() || !calibrated(effective)) return Done{};
  std::string text(static_cast<size_t>(effective.integer("calibration.tokens") * kBytesPerToken), '\0');
  std::ifstream in(path, std::ios::binary);
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  if (text.size() < kPassage) return Done{};
  for (size_t i = 0; i < kPassages; ++i) {
    const std::string_view passage(text.data() + (text.size() - kPassage) * i / (kPassages - 1), kPassage);
    if (evaluated.find(passage) == std::string::npos) continue;
    return Error{ErrorCode::badInput, "The calibration text " + path + " holds parts of the text to evaluate on: weights fitted to a text may not be judged by it.",
                 "Set calibration.text to another text, or evaluate on one that was held out."};
  }
  return Done{};
}

}  // namespace winnow
