// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <string>

#include "engine/core/result.h"
#include "engine/model/gguf.h"
#include "engine/model/model.h"

namespace winnow {

struct GgufVocab {
  VocabData data;
  std::string unsupported;  // the name of a tokenizer this program has not got; data.kind is none then
};
Result<GgufVocab> readGgufVocab(const GgufFile& file);

}  // namespace winnow
