// SPDX-License-Identifier: GPL-3.0-or-later
// Repacking file blocks keeps every value: the matrix dequantizes to exactly what the block decoder says.
#include "tests/support/check.h"

#include <random>

#include "engine/core/dtype.h"
#include "engine/model/model.h"
#include "engine/weights/blocks.h"

using namespace winnow;

TEST(blocks_are_repacked_exactly) {
  std::mt19937 rng(5);
  for (DType type : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q3_k, DType::q6_k, DType::mxfp4})
    for (int rows : {1, 16, 39})
      for (int blocks : {1, 5}) {
        const DTypeTraits traits = dtypeTraits(type);
        const int cols = blocks * traits.blockValues;
        const size_t rowBytes = static_cast<size_t>(blocks * traits.blockBytes), stride = rowBytes + 6;
        std::vector<std::byte> file(stride * static_cast<size_t>(rows));
        for (auto& b : file) b = static_cast<std::byte>(rng());
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
          for (size_t block = 0; block < static_cast<size_t>(blocks); ++block) {
            std::byte* at = file.data() + r * stride + block * static_cast<size_t>(traits.blockBytes);
            const uint16_t scale = floatToF16(static_cast<float>(static_cast<int>(rng() % 2001) - 1000) / 512),
                           min = floatToF16(-0.37f * static_cast<float>(rng() % 9));
            if (type == DType::mxfp4) {
              *at = static_cast<std::byte>(rng() % 253);
              continue;
            }
            const bool last = type == DType::q3_k || type == DType::q6_k;
            std::memcpy(at + (last ? traits.blockBytes - 2 : 0), &scale, 2);
            if (last) continue;
            if (type != DType::q8_0 && type != DType::q4_0 && type != DType::q5_0) std::memcpy(at + 2, &min, 2);
          }
        Ledger ledger;
        Matrix m = Matrix::allocate(ledger, *exactFormat(type), rows, cols);
        for (int first = 0; first < rows; first += 16)
          EXPECT(packBlocksExactly(type, file.data() + static_cast<size_t>(first) * stride, stride, std::min(16, rows - first), first, m));
        MasterTensor tensor;
        tensor.type = type;
        tensor.rows = rows;
        tensor.cols = cols;
        tensor.data = file.data();
        tensor.storedRowBytes = stride;
        std::vector<float> expected(static_cast<size_t>(cols)), found(static_cast<size_t>(cols));
        for (int r = 0; r < rows; ++r) {
          Model::decodeRows(tensor, r, 1, expected.data());
          dequantizeRow(m, r, found.data());
          EXPECT(found == expected, dtypeTraits(type).name, rows, cols, r);
        }
      }
}

TEST(blocks_that_do_not_fit_are_refused) {
  Ledger ledger;
  std::vector<std::byte> file(4096);
  Matrix wrongBits = Matrix::allocate(ledger, {Storage::packed, 4, 32, true}, 1, 32);
  EXPECT(!packBlocksExactly(DType::q8_0, file.data(), 34, 1, 0, wrongBits));
  EXPECT(!packBlocksExactly(DType::q4_1, file.data(), 20, 1, 0, wrongBits));
  Matrix shortRow = Matrix::allocate(ledger, {Storage::packed, 4, 32, true}, 1, 40);
  EXPECT(!packBlocksExactly(DType::q4_0, file.data(), 36, 1, 0, shortRow));
  Matrix half = Matrix::allocate(ledger, {Storage::packed, 4, 32, false, 256}, 1, 128);
  EXPECT(!packBlocksExactly(DType::q4_k, file.data(), 144, 1, 0, half));
  for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q2_k}) EXPECT(!exactFormat(type));
}
