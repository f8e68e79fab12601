// SPDX-License-Identifier: GPL-3.0-or-later
// Spans of layers that share attention, as a person writes them: "4-6, 9-10". The first layer of a span leads it.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"

namespace winnow {

struct LayerSpan {
  int first = 0, last = 0;  // both included
  bool operator==(const LayerSpan&) const = default;
};

// Entries stand apart by commas or spaces, each of two layers or more, ascending, none in two of them. Errors (usage) name the entry.
Result<std::vector<LayerSpan>> parseSpans(std::string_view text);
std::string spansText(std::span<const LayerSpan> spans);

// Why the spans can't be used on a model of so many layers; nullopt when they can.
std::optional<std::string> outOfModel(std::span<const LayerSpan> spans, int layers);

}  // namespace winnow
