// SPDX-License-Identifier: GPL-3.0-or-later
// Agreement with exact leave-one-out as tests/bench/attribution.cpp measured it.
#include <array>

#include "engine/attribute/budget.h"

namespace winnow {

const std::string_view kAgreementSource =
    "bench_attribution quality tinystories-instruct-3m-chat-f32.gguf resources/stories/stories.jsonl --proxy stories260K-f32.gguf, twenty stories of seven sentences.";

std::span<const MeasuredAgreement> measuredAgreements() {
  // A story is one paragraph: of the ways that begin with paragraphs this says nothing, and they have no row.
  static constexpr std::array<MeasuredAgreement, 7> rows = {{
      {"attribot", "reuse,replace", true, 0, 0, 0, 0.950, 0.034, 0.412},
      {"attribot", "reuse,prune", true, 0, 1, 0, 0.921, 0.055, 0.560},
      {"attribot", "reuse,prune", true, 0, 3, 0, 1.000, 0.000, 0.441},
      {"contextcite", "", false, 0, 0, 16, 0.975, 0.025, 0.725},
      {"contextcite", "", false, 0, 0, 64, 0.975, 0.025, 0.814},
      {"attention", "", false, 0, 0, 0, 0.506, 0.070, -0.076},
      {"rollout", "", false, 0, 0, 0, 0.223, 0.013, -0.153},
  }};
  return rows;
}

}  // namespace winnow
