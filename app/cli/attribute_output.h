// SPDX-License-Identifier: GPL-3.0-or-later
// What winnow-cli attribute answers.
#pragma once
#include "app/cli/command.h"
#include "engine/attribute/attribute.h"

namespace winnow::cli {

// source: the one whose support of the response is told, token by token; -1 = none. Answers are exit codes.
int printJson(const Invocation& invocation, const AttributeResult& result, int source);
int printRanking(const Invocation& invocation, const AttributeResult& result, int source);
int printDifferenceJson(const Invocation& invocation, const AttributionDifference& difference);
int printDifference(const Invocation& invocation, const AttributionDifference& difference);

}  // namespace winnow::cli
