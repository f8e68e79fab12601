// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/sparsify/skipped.h"

namespace winnow {
namespace {

int64_t bytesRead(const Matrix& w, const ChannelMajor* channels, int64_t kept) {
  if (!channels) return kept * static_cast<int64_t>(w.bytes()) / w.rows;
  const int64_t codes = static_cast<int64_t>(channels->data.bytes()) / channels->count * kept;
  return codes + (channels->columns ? (kept > 0 ? channels->scaleBytes() : 0) : channels->scaleBytes() / channels->count * kept);
}

}  // namespace

Skipped skippedOf(const Matrix& w, const ChannelMajor* channels, int64_t kept, int64_t of, bool again) {
  const int64_t whole = again ? 0 : static_cast<int64_t>(w.bytes());
  return {whole - bytesRead(w, channels, kept), 2 * (of - kept) * (int64_t{w.rows} * w.cols / of)};
}

}  // namespace winnow
