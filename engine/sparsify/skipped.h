// SPDX-License-Identifier: GPL-3.0-or-later
// What a product does without when only some of the channels of its matrix take part.
#pragma once
#include <cstdint>

#include "engine/weights/channel_major.h"

namespace winnow {

struct Skipped {
  int64_t bytes = 0, flops = 0;
};

// Of `of` channels `kept` are read; scales of columns are in groups, of which all count as read. `again`: another row of the pass has read the whole
// matrix, if it is read whole; by channel each row reads for itself.
Skipped skippedOf(const Matrix& w, const ChannelMajor* channels, int64_t kept, int64_t of, bool again);

}  // namespace winnow
