// SPDX-License-Identifier: GPL-3.0-or-later
// How a budget is dealt to layers and heads, and who stays by the scores a policy gave.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

inline constexpr double kPyramidBeta = 20;

// perHead: every head keeps the budget, each its own slots. perLayer: the same, and the heads of a layer keep the same slots, by the sum of
// their scores. pyramid: early layers keep more than late ones, on average the budget (PyramidKV, arXiv 2406.02069, eq. 5).
// adaptive: a layer's heads share its budget by comparing scores, and a fifth of a head's is its own (Ada-KV, arXiv 2407.11550, algorithm 1).
enum class KvAllocation : uint8_t { perHead, perLayer, pyramid, adaptive };

// What kv.allocation can say: auto, the policy's own; even, which is perLayer for policies of which that is the own; pyramid; adaptive.
std::vector<std::string> kvAllocationNames();
KvAllocation kvAllocation(std::string_view name, KvAllocation own);

// Slots each of `layers` layers keeps, [layers], when they keep `keep` on average, of which `window` are the newest; none more than `held`.
// Of the older ones the last layer keeps the average over beta. The sum is layers * keep unless `held` forbids.
std::vector<int> pyramidBudgets(int layers, int keep, int window, int held, double beta = kPyramidBeta);

// The slots that stay, ascending: the newest and the best others, keep in all (1 <= keep <= scores.size()).
void keepBest(std::span<const float> scores, int keep, std::vector<int32_t>& kept);

// Scores that mean something within a head alone (norms, cosines) as standard deviations from the head's mean, which adaptiveBudgets() may
// compare among heads. Infinite ones stay and count for nothing; equal ones become 0.
void standardize(std::span<float> scores);

// Slots each head keeps, [heads], of scores [heads][slots]; heads * keep in all, where they have as many.
std::vector<int> adaptiveBudgets(std::span<const std::vector<float>> scores, int keep);

}  // namespace winnow
