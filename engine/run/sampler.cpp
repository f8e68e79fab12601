// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/core/check.h"

namespace winnow {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0], b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};  // Weyl sequence
  }
  return counter;
}

double uniformAt(uint64_t seed, uint64_t position) {
  const auto bits = philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                               {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>((uint64_t{bits[0]} << 32 | bits[1]) >> 11) * 0x1p-53;
}

namespace {

struct Candidate {
  float logit;
  int32_t id;
  double p;
};

bool better(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

int32_t greedy(const std::vector<Candidate>& candidates) { return std::ranges::min_element(candidates, better)->id; }

std::vector<Candidate> penalized(std::span<const float> logits, std::span<const int32_t> history, const SamplerSettings& s) {
  std::vector<Candidate> out(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) out[i] = {logits[i], static_cast<int32_t>(i), 0};
  if (s.repetitionPenalty == 1.0f) return out;
  const size_t window = std::min(history.size(), static_cast<size_t>(std::max(0, s.repetitionWindow)));
  std::vector<int32_t> recent(history.end() - static_cast<std::ptrdiff_t>(window), history.end());
  std::ranges::sort(recent);
  recent.erase(std::unique(recent.begin(), recent.end()), recent.end());
  for (int32_t id : recent) {  // CTRL (Keskar et al. 2019): divide what is positive, multiply what is negative
    if (id < 0 || static_cast<size_t>(id) >= out.size()) continue;
    float& logit = out[static_cast<size_t>(id)].logit;
    logit = logit > 0 ? logit / s.repetitionPenalty : logit * s.repetitionPenalty;
  }
  return out;
}

}  // namespace

int32_t sample(std::span<const float> logits, std::span<const int32_t> history, const SamplerSettings& s, uint64_t position) {
  CHECK(!logits.empty());
  std::vector<Candidate> candidates = penalized(logits, history, s);
  if (s.temperature <= 0) return greedy(candidates);
  size_t keep = candidates.size();
  if (s.topK > 0) keep = std::min(keep, static_cast<size_t>(s.topK));
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(keep), candidates.end(), better);
  candidates.resize(keep);

  const double top = candidates.front().logit;
  double total = 0;
  for (Candidate& c : candidates) total += c.p = std::exp((c.logit - top) / s.temperature);
  if (s.topP < 1.0f) {  // the smallest set whose mass reaches topP; at least one
    double mass = 0;
    size_t n = 0;
    while (n < candidates.size() && (n == 0 || mass < s.topP * total)) mass += candidates[n++].p;
    candidates.resize(n);
  }
  if (s.minP > 0.0f) std::erase_if(candidates, [&](const Candidate& c) { return c.p < s.minP * candidates.front().p; });

  total = std::accumulate(candidates.begin(), candidates.end(), 0.0, [](double sum, const Candidate& c) { return sum + c.p; });
  double left = uniformAt(s.seed, position) * total;
  for (const Candidate& c : candidates)
    if ((left -= c.p) < 0) return c.id;
  return candidates.back().id;
}

}  // namespace winnow
