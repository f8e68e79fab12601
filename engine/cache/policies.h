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
std::unique_ptr<KvPolicy> makeRandom();

}  // namespace winnow
