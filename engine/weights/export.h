// SPDX-License-Identifier: GPL-3.0-or-later
// A weight set as a model file. GGUF: metadata, tokenizer and tensors that did not change are copied byte for byte; packed codes become the
// block type that holds them exactly, everything else plain values. Safetensors: plain values, beside what a folder of Hugging Face has.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/weights/store.h"

namespace winnow {

// The block type of a GGUF that holds the codes of a packed format exactly, scales of wide groups repeated; none for the others.
// Symmetric: 8 and 6 bit q8_0, 5 bit q5_0, 4 bit and less q4_0. With a minimum: 5 bit q5_1, 4 bit and less q4_1. MXFP4: mxfp4.
std::optional<DType> exactBlockType(const WeightFormat& format, int cols);

// Rows [first, first + count) of a packed matrix as blocks of exactBlockType(), one row after the other. first is a multiple of 16.
void encodeBlocks(const Matrix& matrix, DType type, int first, int count, std::byte* out);

struct ExportSummary {
  int64_t bytes = 0;
  int copied = 0, blocks = 0, plain = 0;  // tensors: byte for byte, exact blocks, values
  std::vector<std::string> notes;         // "6 bit asym has no block type: stored as f32 (7 tensors)"
};

Error slicedRefusal();  // why a set with shortcuts is not exported
Status placesForBiases(const WeightSet& set);  // an error where a layer has a bias that the model has no tensor for
// The channels that every feed-forward has; an error where they differ, as a model file has one width for all of them.
Result<int> commonWidth(const WeightSet& set);

// The shape that a file would say the model has; an error where its attentions or feed-forwards have one that no file can say.
Result<ModelConfig> exportedShape(const WeightSet& set);

// `target` is what the set was made by. Writes beside the file and renames when it is whole. `settings` is kept in the file's metadata. Errors: a model that is no GGUF, a
// changed tensor that can't be put back, the disk, cancelled. [any thread; the set lies in host memory]
Result<ExportSummary> exportGguf(const WeightSet& set, const WeightTarget& target, const std::string& settings, const std::string& path, ThreadPool& pool,
                                 const Progress& progress);

// A folder of Hugging Face, new or empty: `path`, or that of a NAME.safetensors in it. Matrices that are plain keep their type, all others get the smallest
// of f16, bf16 and f32 that holds every value; factors of an error and super weights are added to what they lie beside. Of a GGUF the configuration and
// the tokenizer are written anew. The folder gets its name when it is whole. Errors: a folder with other files, dropped layers, layers of different widths, a tokenizer or a
// configuration that these files can't say, the disk, cancelled. [any thread; the set lies in host memory]
Result<ExportSummary> exportSafetensors(const WeightSet& set, const WeightTarget& target, const std::string& settings, const std::string& path, ThreadPool& pool,
                                        const Progress& progress);

}  // namespace winnow
