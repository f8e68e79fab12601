// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <memory>

#include "engine/cache/policy.h"

namespace winnow {

std::unique_ptr<KvPolicy> makeFull();
std::unique_ptr<KvPolicy> makeWindow();
std::unique_ptr<KvPolicy> makeH2o();
std::unique_ptr<KvPolicy> makeTova();
std::unique_ptr<KvPolicy> makeSnapKv();
std::unique_ptr<KvPolicy> makeMiniKv();  // request.window: newest tokens that stay
std::unique_ptr<KvPolicy> makeRandom();
std::unique_ptr<KvPolicy> makeKnorm();
std::unique_ptr<KvPolicy> makeKeyDiff();
std::unique_ptr<KvPolicy> makeScissorhands();

struct KeyformerSettings {
  double temperature = 1, rise = 0.01;  // of the softmax: at first, and by how much it rises with each token after the policy first ran
  double recentShare = 0.3;             // of the budget, for the newest tokens
  bool noise = true;
  int mostQueries = 32;                 // that are added each time the policy runs
};
std::unique_ptr<KvPolicy> makeKeyformerWith(const KeyformerSettings& settings);
std::unique_ptr<KvPolicy> makeKeyformer();
std::unique_ptr<KvPolicy> makeExpectedOver(int futurePositions);  // 0: an eighth of the tokens so far, at most 512
std::unique_ptr<KvPolicy> makeExpected();

}  // namespace winnow
