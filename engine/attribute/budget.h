// SPDX-License-Identifier: GPL-3.0-or-later
// The best answer in so many seconds: what each way would cost at the speeds measured on this text, how well it agrees with exact
// leave-one-out where that was measured, and the best of those that end in time.
#pragma once
#include "engine/attribute/attribute.h"

namespace winnow {

// Agreement of a method with exact leave-one-out, means over the examples of a data set.
struct MeasuredAgreement {
  std::string_view method, tricks;
  bool proxy;
  int keepParagraphs, keepSources, samples;  // 0 where it has none
  double precision, precisionError;          // mean average precision of the outliers, its standard error
  double spearman;
};
std::span<const MeasuredAgreement> measuredAgreements();
extern const std::string_view kAgreementSource;  // the command, the models and the data behind the table

struct BudgetInput {
  std::string method = "attribot";       // contextcite and shapley stay what they are: their samples are chosen. Any other: all ways are weighed
  int64_t prefix = 0, suffix = 0;        // tokens before the first source; of question and response
  std::vector<int64_t> lengths;          // [sources] tokens
  std::vector<size_t> paragraphs;        // [sources] the paragraph of each
  double targetMs = 0, proxyMs = 0;      // a token; proxyMs 0 = no proxy
  std::span<const MeasuredAgreement> measured = measuredAgreements();
};

// Tokens that leave-one-out with kept prefixes feeds, the baseline included.
int64_t leaveOneOutTokens(int64_t prefix, const std::vector<int64_t>& lengths, int64_t suffix);

std::vector<AttributionForecast> forecastAttribution(const BudgetInput& input, double seconds);  // the surest first
// The best that ends in time: the highest agreement, then the least time; the quickest where none does.
int chooseForecast(const std::vector<AttributionForecast>& forecasts, double seconds);
void applyForecast(const AttributionForecast& forecast, AttributeRequest& request);

}  // namespace winnow
