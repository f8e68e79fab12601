// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/budget.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

namespace winnow {
namespace {

constexpr double kMargin = 1.15;      // a token of an ablation costs more than one of a long prompt
constexpr double kAttentionCost = 2;  // of a forward whose attention is read

using Lengths = std::vector<int64_t>;

Lengths longest(Lengths lengths, size_t count) {
  std::ranges::sort(lengths, std::greater<>());
  lengths.resize(std::min(lengths.size(), count));
  return lengths;
}

class Forecaster {
 public:
  explicit Forecaster(const BudgetInput& input) : in_(input) {
    std::map<size_t, Lengths> groups;
    for (size_t i = 0; i < in_.lengths.size(); ++i) groups[in_.paragraphs[i]].push_back(in_.lengths[i]);
    for (auto& [paragraph, lengths] : groups) paragraphs_.push_back(std::move(lengths));
    context_ = std::accumulate(in_.lengths.begin(), in_.lengths.end(), int64_t{0});
  }

  void exact() {
    AttributionForecast one;
    one.method = "attribot";
    one.tricks = "reuse";
    one.targetTokens = cost(in_.lengths);
    one.basis = "Exact: the scores of leave-one-out, with the keys and values of shared prefixes kept.";
    add(one);
  }

  // The ways that have been measured and that this context and these models allow.
  void measured() {
    for (const MeasuredAgreement& row : in_.measured) {
      if (row.proxy && in_.proxyMs <= 0) continue;
      const bool hierarchy = row.tricks.find("hierarchy") != std::string_view::npos, prunes = row.tricks.find("prune") != std::string_view::npos;
      if (hierarchy && (paragraphs_.size() <= static_cast<size_t>(row.keepParagraphs) || paragraphs_.size() == in_.lengths.size())) continue;
      AttributionForecast one;
      one.method = row.method;
      one.tricks = row.tricks;
      one.keepParagraphs = row.keepParagraphs;
      one.keepSources = row.keepSources;
      one.samples = row.samples;
      one.agreement = row.precision;
      one.agreementError = row.precisionError;
      one.spearman = row.spearman;
      one.basis = std::string("Measured beside exact leave-one-out: ") + std::string(kAgreementSource);
      Lengths left = in_.lengths;
      int64_t scout = 0;
      if (hierarchy) scout += hierarchical(row.keepParagraphs, left);
      if (prunes && left.size() <= static_cast<size_t>(row.keepSources)) continue;
      if (row.method == "attribot") {
        scout += cost(left);
        (row.proxy ? one.proxyTokens : one.targetTokens) = scout;
        if (prunes) one.targetTokens = cost(longest(left, static_cast<size_t>(row.keepSources)));
      } else {
        one.targetTokens = row.method == "attention" || row.method == "rollout" ? static_cast<int64_t>(kAttentionCost * static_cast<double>(whole())) : row.samples * half() + whole();
      }
      add(one);
    }
  }

  // As many random contexts as there is time for.
  void sampled(double seconds) {
    const bool pairs = in_.method == "shapley";
    const auto n = static_cast<int64_t>(in_.lengths.size());
    const int64_t each = pairs ? 2 * std::max<int64_t>(n - 1, 1) * half() : half();
    const double room = seconds * 1000 / (kMargin * in_.targetMs) - static_cast<double>(whole());
    AttributionForecast one;
    one.method = in_.method;
    one.samples = std::clamp(static_cast<int>(std::min(room / static_cast<double>(each), 1e5)), pairs ? 2 : 8, pairs ? 50 : 64);
    one.targetTokens = whole() + one.samples * each;
    one.basis = pairs ? "The standard error of each score is that of its mean over " + std::to_string(one.samples) + " pairs of orders, shown with it."
                      : "How well the fit predicts contexts held out is measured on " + std::to_string(one.samples) + " of them, shown with the scores.";
    add(one);
  }

  std::vector<AttributionForecast> take() {
    std::ranges::stable_sort(forecasts_, [](const auto& a, const auto& b) { return a.agreement > b.agreement; });
    return std::move(forecasts_);
  }

 private:
  int64_t cost(const Lengths& lengths) const { return leaveOneOutTokens(in_.prefix, lengths, in_.suffix); }
  int64_t whole() const { return in_.prefix + context_ + in_.suffix; }
  int64_t half() const { return in_.prefix + context_ / 2 + in_.suffix; }  // a context of every other source

  // Tokens of the pass over paragraphs; `left` are the sources of the longest of them.
  int64_t hierarchical(int keep, Lengths& left) const {
    std::vector<std::pair<int64_t, size_t>> sizes;
    Lengths lengths;
    for (size_t i = 0; i < paragraphs_.size(); ++i) {
      lengths.push_back(std::accumulate(paragraphs_[i].begin(), paragraphs_[i].end(), int64_t{0}));
      sizes.emplace_back(lengths.back(), i);
    }
    std::ranges::sort(sizes, std::greater<>());
    left.clear();
    for (size_t i = 0; i < std::min(sizes.size(), static_cast<size_t>(keep)); ++i) {
      const Lengths& kept = paragraphs_[sizes[i].second];
      left.insert(left.end(), kept.begin(), kept.end());
    }
    return cost(lengths);
  }

  void add(AttributionForecast one) {
    one.seconds = kMargin * (static_cast<double>(one.targetTokens) * in_.targetMs + static_cast<double>(one.proxyTokens) * in_.proxyMs) / 1000;
    forecasts_.push_back(std::move(one));
  }

  const BudgetInput& in_;
  std::vector<Lengths> paragraphs_;
  int64_t context_ = 0;
  std::vector<AttributionForecast> forecasts_;
};

}  // namespace

int64_t leaveOneOutTokens(int64_t prefix, const std::vector<int64_t>& lengths, int64_t suffix) {
  int64_t total = prefix + suffix, after = 0;
  for (size_t i = lengths.size(); i-- > 0;) {
    total += after + suffix;
    after += lengths[i];
  }
  return total + after;
}

std::vector<AttributionForecast> forecastAttribution(const BudgetInput& input, double seconds) {
  Forecaster forecaster(input);
  if (input.method == "contextcite" || input.method == "shapley") {
    forecaster.sampled(seconds);
  } else {
    forecaster.exact();
    forecaster.measured();
  }
  return forecaster.take();
}

int chooseForecast(const std::vector<AttributionForecast>& forecasts, double seconds) {
  int chosen = -1;
  for (size_t i = 0; i < forecasts.size(); ++i) {
    const AttributionForecast& one = forecasts[i];
    if (one.seconds > seconds) continue;
    const AttributionForecast* best = chosen < 0 ? nullptr : &forecasts[static_cast<size_t>(chosen)];
    if (!best || one.agreement > best->agreement || (one.agreement == best->agreement && one.seconds < best->seconds)) chosen = static_cast<int>(i);
  }
  if (chosen < 0 && !forecasts.empty()) chosen = static_cast<int>(std::ranges::min_element(forecasts, {}, &AttributionForecast::seconds) - forecasts.begin());
  return chosen;
}

void applyForecast(const AttributionForecast& forecast, AttributeRequest& request) {
  request.method = forecast.method;
  if (!forecast.tricks.empty())
    if (auto tricks = parseTricks(forecast.tricks)) request.attribot = *tricks;
  if (forecast.keepParagraphs > 0) request.attribot.keepParagraphs = forecast.keepParagraphs;
  if (forecast.keepSources > 0) request.attribot.keepSources = forecast.keepSources;
  if (forecast.samples > 0) request.samples = forecast.samples;
}

}  // namespace winnow
