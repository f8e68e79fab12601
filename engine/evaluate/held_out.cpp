// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/held_out.h"

#include <algorithm>
#include <fstream>
#include <string_view>

#include "engine/run/session_impl.h"

namespace winnow {
namespace {

constexpr size_t kPassage = 200, kPassages = 16;  // bytes; how many are looked for, evenly spread
constexpr int64_t kBytesPerToken = 6;             // what is read of the text at most, generously

}  // namespace

Status heldOut(const Session& session, const std::string& evaluated) {
  const std::shared_ptr<const Effective> effective = session.effective();
  const Config& config = effective->config;
  const std::string& chosen = config.text("calibration.text");
  const std::string& path = chosen.empty() ? EngineCore::inside(session).core->options.calibrationSample : chosen;
  if (path.empty() || !Schema::instance().find("calibration.text")->enabled(config)) return Done{};  // nothing is measured
  std::string text(static_cast<size_t>(config.integer("calibration.tokens") * kBytesPerToken), '\0');
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
