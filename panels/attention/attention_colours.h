// SPDX-License-Identifier: GPL-3.0-or-later
// Shares of attention as colours and pictures. By the root: most shares are small.
#pragma once
#include <QImage>
#include <cmath>

#include "experiments/attention.h"
#include "panels/theme/theme.h"

namespace winnow {

inline QColor attentionColour(double share) { return Theme::sequential(std::sqrt(std::clamp(share, 0.0, 1.0))); }

// A pixel for each cell; ahead of the query the colour is `ahead`.
inline QImage attentionImage(const AttentionMaps& maps, int layer, int head, const QColor& ahead) {
  QImage image(maps.cells(), maps.cells(), QImage::Format_RGB32);
  image.fill(ahead);
  for (int query = 0; query < maps.cells(); ++query)
    for (int key = 0; key <= query; ++key) image.setPixelColor(key, query, attentionColour(static_cast<double>(maps.share(layer, head, query, key))));
  return image;
}

}  // namespace winnow
