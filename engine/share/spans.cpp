// SPDX-License-Identifier: GPL-3.0-or-later
// Shared Attention (Liao and Vargas 2024, arXiv 2407.12866): the layers of a span use the attention of its first.
#include "engine/share/spans.h"

#include <charconv>

#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"

namespace winnow {
namespace {

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? std::optional(value) : std::nullopt;
}

Error wrong(std::string_view entry, const char* what) {
  return Error{ErrorCode::usage, "share.spans: " + std::string(entry) + " " + what,
               "Write spans as 4-6, 9-10: layers from 0 on, ascending, two or more each."};
}

}  // namespace

Result<std::vector<LayerSpan>> parseSpans(std::string_view text) {
  std::vector<LayerSpan> spans;
  while (true) {
    const size_t begin = text.find_first_not_of(", ");
    if (begin == std::string_view::npos) return spans;
    text.remove_prefix(begin);
    const std::string_view entry = text.substr(0, text.find_first_of(", "));
    text.remove_prefix(entry.size());
    const size_t dash = entry.find('-');
    const auto first = number(entry.substr(0, dash)), last = dash == std::string_view::npos ? std::nullopt : number(entry.substr(dash + 1));
    if (!first || !last) return wrong(entry, "is no span of layers.");
    if (*last <= *first) return wrong(entry, "has no second layer: nothing would be shared.");
    if (!spans.empty() && *first <= spans.back().last) return wrong(entry, "begins before the span in front of it ends.");
    spans.push_back({*first, *last});
  }
}

std::string spansText(std::span<const LayerSpan> spans) {
  std::string text;
  for (const LayerSpan& span : spans) text += (text.empty() ? "" : ", ") + std::to_string(span.first) + "-" + std::to_string(span.last);
  return text;
}

std::optional<std::string> outOfModel(std::span<const LayerSpan> spans, int layers) {
  if (spans.empty() || spans.back().last < layers) return std::nullopt;
  return "share.spans names layer " + std::to_string(spans.back().last) + ", but the last layer of this model is " +
         std::to_string(layers - 1) + ".";
}

std::vector<LayerSharing> spanSharing(const ModelConfig& model, const Config& config, Shared what) {
  std::vector<LayerSharing> map = noSharing(model.layers);
  const auto spans = parseSpans(config.text("share.spans"));
  if (!spans || outOfModel(*spans, model.layers)) return map;  // refused with the reason where the knob is set
  for (const LayerSpan& span : *spans)
    for (int layer = span.first; layer <= span.last; ++layer) map[static_cast<size_t>(layer)].*what = span.first;
  return map;
}

std::vector<LayerSharing> sharedAttentionSharing(const ModelConfig& model, const Config& config) { return spanSharing(model, config, &LayerSharing::attnSource); }

}  // namespace winnow
