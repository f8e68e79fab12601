// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/context.h"

#include <algorithm>

#include "engine/core/check.h"

namespace winnow::cpu {

Context::Context(ThreadPool& pool, Isa isa, Ledger* ledger) : pool_(pool), isa_(isa), impl_(std::make_unique<Impl>(ledger)) {
  const auto isas = availableIsas();
  CHECK(std::find(isas.begin(), isas.end(), isa) != isas.end(), isaName(isa));
  impl_->kernels = kernelsFor(isa);
}

Context::~Context() = default;

bool Context::planning() const { return impl_->ledger.planning(); }

}  // namespace winnow::cpu
