// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/context.h"

#include <algorithm>

#include "engine/core/check.h"

namespace winnow::cpu {

Context::Context(ThreadPool& pool, Isa isa, Ledger* ledger) : pool_(pool), isa_(isa), impl_(std::make_unique<Impl>(ledger)) {
  const auto isas = availableIsas();
  CHECK(std::find(isas.begin(), isas.end(), isa) != isas.end(), isaName(isa));
  impl_->kernels = kernelsFor(isa);
  impl_->codes = codeKernelsFor(isa);
  impl_->channels = *(isa == Isa::avx512 ? avx512ChannelKernels() : isa == Isa::avx2 ? avx2ChannelKernels() : scalarChannelKernels());
  impl_->expand = expandKernelsFor(isa);
}

Context::~Context() = default;

bool Context::planning() const { return impl_->ledger.planning(); }

void Context::reserveLike(const Context& planned) {
  const auto wanted = planned.impl_->scratch();
  const auto mine = impl_->scratch();
  for (size_t i = 0; i < mine.size(); ++i) mine[i]->need<std::byte>(wanted[i]->bytes());
}

}  // namespace winnow::cpu
