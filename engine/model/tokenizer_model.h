// SPDX-License-Identifier: GPL-3.0-or-later
// Vocabularies in a file of their own: a SentencePiece model (protobuf) or a list of tiktoken ranks.
#pragma once
#include <span>
#include <string>

#include "engine/core/result.h"
#include "engine/model/model.h"

namespace winnow {

Result<VocabData> openTokenizerModel(const std::string& path);  // tells the two apart by their first bytes
Result<VocabData> readSentencePieceModel(std::span<const std::byte> bytes, const std::string& path);
Result<VocabData> readTiktokenRanks(std::string_view text, const std::string& path);

}  // namespace winnow
