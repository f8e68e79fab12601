// SPDX-License-Identifier: GPL-3.0-or-later
// Shapes for random models.
#pragma once
#include <stdexcept>
#include <string>

#include "engine/model/synthesize.h"
#include "tests/support/check.h"

namespace winnow::test {

inline const NamedShape& named(const std::string& name) {
  for (const NamedShape& shape : namedShapes())
    if (shape.name == name) return shape;
  throw std::runtime_error("no shape " + name);
}

// A shape that takes milliseconds, in the family of `like`.
inline NamedShape tinyShape(const std::string& like) {
  NamedShape shape = named(like);
  shape.config.layers = 2;
  shape.config.hidden = 64;
  shape.config.heads = 4;
  shape.config.kvHeads = 2;
  shape.config.headDim = shape.config.rope.dims = 16;
  shape.config.ffn = 96;
  shape.config.vocab = 512;
  shape.config.context = 128;
  return shape;
}

}  // namespace winnow::test
