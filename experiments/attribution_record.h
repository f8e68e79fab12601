// SPDX-License-Identifier: GPL-3.0-or-later
// Attributions as a session file keeps them, and back.
#pragma once
#include <QJsonArray>

#include "experiments/jobs.h"

namespace winnow {

storage::AttributionRecord attributionRecord(const AttributeRequest& request, const AttributeResult& result);
storage::AttributionOutcome outcomeRecord(const Outcome& outcome);
// As if it had just been computed: spans and differences can be taken from it.
AttributeResult attributionResult(const storage::AttributionRecord& record, const std::vector<storage::AttributionOutcome>& outcomes = {});
// What the run left behind, for one that goes on.
Result<std::shared_ptr<const KnownOutcomes>> knownOutcomes(storage::SessionFile& file, storage::Id run);

QJsonArray levelsJson(const std::vector<AttributionLevel>& levels);
QJsonArray forecastsJson(const AttributeResult& result);

}  // namespace winnow
