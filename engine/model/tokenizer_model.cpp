// SPDX-License-Identifier: GPL-3.0-or-later
// SentencePiece: ModelProto { 1: repeated Piece {1: text, 2: score (float), 3: type}, 2: TrainerSpec {3: model type, 40-43: ids},
// 3: NormalizerSpec {3: add_dummy_prefix} }. Wire format: a varint tag (field << 3 | kind), then a varint, 4, 8 or counted bytes.
#include "engine/model/tokenizer_model.h"

#include <cmath>
#include <cstring>
#include <optional>

#include "engine/model/mapped_file.h"
#include "engine/model/message.h"
#include "engine/model/vocab.h"

namespace winnow {
namespace {

struct Field {
  uint32_t number = 0, kind = 0;
  uint64_t value = 0;                // kinds 0, 1 and 5
  std::span<const std::byte> bytes;  // kind 2
  float real() const {
    float f;
    const uint32_t bits = static_cast<uint32_t>(value);
    std::memcpy(&f, &bits, 4);
    return f;
  }
  std::string text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};

class Message {
 public:
  explicit Message(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool atEnd() const { return at_ == bytes_.size(); }
  bool next(Field& field) {  // false when the bytes are not a message
    uint64_t tag = 0;
    if (!varint(tag) || tag >> 32 != 0 || tag >> 3 == 0) return false;
    field = {static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7), 0, {}};
    if (field.kind == 0) return varint(field.value);
    if (field.kind == 1 || field.kind == 5) return fixed(field.value, field.kind == 1 ? 8 : 4);
    if (field.kind != 2) return false;
    uint64_t length = 0;
    if (!varint(length) || length > bytes_.size() - at_) return false;
    field.bytes = bytes_.subspan(at_, static_cast<size_t>(length));
    at_ += static_cast<size_t>(length);
    return true;
  }

 private:
  bool varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (atEnd()) return false;
      const uint8_t byte = static_cast<uint8_t>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }
  bool fixed(uint64_t& value, size_t n) {
    if (bytes_.size() - at_ < n) return false;
    value = 0;
    std::memcpy(&value, bytes_.data() + at_, n);
    at_ += n;
    return true;
  }
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

bool readPiece(std::span<const std::byte> bytes, VocabData& v) {
  Message message(bytes);
  std::string text;
  float score = 0;
  uint64_t type = 1;
  for (Field f; !message.atEnd();) {
    if (!message.next(f)) return false;
    if (f.number == 1 && f.kind == 2) text = f.text();
    if (f.number == 2 && f.kind == 5) score = f.real();
    if (f.number == 3 && f.kind == 0) type = f.value;
  }
  if (!std::isfinite(score)) return false;
  v.tokens.push_back(std::move(text));
  v.scores.push_back(score);
  v.types.push_back(type >= 1 && type <= 6 ? static_cast<VocabData::TokenType>(type) : VocabData::TokenType::normal);
  return true;
}

struct Trainer {
  uint64_t modelType = 1;
  int unk = 0, bos = 1, eos = 2, pad = -1;
};
bool readTrainer(std::span<const std::byte> bytes, Trainer& t) {
  Message message(bytes);
  for (Field f; !message.atEnd();) {
    if (!message.next(f)) return false;
    if (f.kind != 0) continue;
    const int id = static_cast<int>(static_cast<int32_t>(static_cast<uint32_t>(f.value)));
    if (f.number == 3) t.modelType = f.value;
    if (f.number == 40) t.unk = id;
    if (f.number == 41) t.bos = id;
    if (f.number == 42) t.eos = id;
    if (f.number == 43) t.pad = id;
  }
  return true;
}
bool readNormalizer(std::span<const std::byte> bytes, VocabData& v) {
  Message message(bytes);
  for (Field f; !message.atEnd();) {
    if (!message.next(f)) return false;
    if (f.number == 3 && f.kind == 0) v.addPrefixSpace = f.value != 0;
  }
  return true;
}

}  // namespace

Result<VocabData> readSentencePieceModel(std::span<const std::byte> bytes, const std::string& path) {
  VocabData v;
  v.kind = VocabData::Kind::spm;
  v.addPrefixSpace = v.addBos = true;
  Trainer trainer;
  Message message(bytes);
  for (Field f; !message.atEnd();) {
    bool good = message.next(f);
    if (good && f.kind == 2 && f.number == 1) good = readPiece(f.bytes, v);
    if (good && f.kind == 2 && f.number == 2) good = readTrainer(f.bytes, trainer);
    if (good && f.kind == 2 && f.number == 3) good = readNormalizer(f.bytes, v);
    if (!good || v.tokens.size() > (size_t{1} << 24))
      return badInput(path, ": this is not a SentencePiece model or it is damaged, after ", v.tokens.size(), " tokens");
  }
  if (v.tokens.empty()) return badInput(path, ": this SentencePiece model holds no tokens");
  if (trainer.modelType != 2) {
    const char* kind = trainer.modelType == 1 ? "unigram" : trainer.modelType == 3 ? "word" : trainer.modelType == 4 ? "char" : "unknown";
    return badInput(path, ": a SentencePiece model of the kind '", kind, "' is not supported, 'bpe' is");
  }
  v.unk = trainer.unk;
  v.bos = trainer.bos;
  v.eos = trainer.eos;
  v.pad = trainer.pad;
  collectEndOfGeneration(v, {});
  if (Status s = checkVocab(v, path); !s) return s.error();
  return v;
}

Result<VocabData> openTokenizerModel(const std::string& path) {
  const auto map = MappedFile::open(path);
  if (!map) return map.error();
  const auto bytes = (*map)->bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  // A SentencePiece model begins with the tag of a piece (10); a list of ranks with base64, a space and a number.
  if (bytes[0] == std::byte{10}) return readSentencePieceModel(bytes, path);
  return readTiktokenRanks(text, path);
}

}  // namespace winnow
