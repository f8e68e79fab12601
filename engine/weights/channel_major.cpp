// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/channel_major.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/quantize/code_format.h"
#include "engine/weights/group_scale.h"

namespace winnow {
namespace {

constexpr int kUnit = ChannelMajor::kUnit, kTile = WeightFormat::kTileRows;

// 8-bit floats have no table that fits a register: their values, exact in f16, are kept beside the scales.
ChannelMajor::Code codeOf(const WeightFormat& format) {
  switch (format.storage) {
    case Storage::f32: return ChannelMajor::Code::f32;
    case Storage::f16: return ChannelMajor::Code::f16;
    case Storage::bf16: return ChannelMajor::Code::bf16;
    case Storage::packed: break;
  }
  return format.bits <= 4 ? ChannelMajor::Code::nibbles : format.code == Code::integer ? ChannelMajor::Code::bytes : ChannelMajor::Code::f16;
}

int64_t bytesOf(ChannelMajor::Code code, int64_t values) {
  switch (code) {
    case ChannelMajor::Code::f32: return 4 * values;
    case ChannelMajor::Code::f16:
    case ChannelMajor::Code::bf16: return 2 * values;
    case ChannelMajor::Code::nibbles: return values / 2;
    case ChannelMajor::Code::bytes: return values;
  }
  return 0;
}

// Pieces of work by turns; between them threads yield.
template <class Work>
bool eachPiece(int64_t pieces, ThreadPool& pool, const Progress& progress, Work work) {
  std::atomic<int64_t> next{0};
  pool.run([&](int, int) {
    for (int64_t i = next++; i < pieces && !progress.stopped(); i = next++) {
      work(i);
      std::this_thread::yield();
    }
  });
  return !progress.stopped();
}

template <class Value>
bool transpose(const Matrix& matrix, ChannelMajor& out, ThreadPool& pool, const Progress& progress) {
  constexpr int kBlock = 64;  // columns: that many lines are being written at a time
  return eachPiece((matrix.cols + kBlock - 1) / kBlock, pool, progress, [&](int64_t piece) {
    const int64_t first = piece * kBlock, count = std::min<int64_t>(kBlock, matrix.cols - first), step = out.stride / static_cast<int64_t>(sizeof(Value));
    Value* to = out.data.as<Value>() + first * step;
    for (int64_t r = 0; r < matrix.rows; ++r) {
      const Value* from = static_cast<const Value*>(matrix.data) + r * matrix.cols + first;
      for (int64_t c = 0; c < count; ++c) to[c * step + r] = from[c];
    }
  });
}

// Codes of a unit's rows, [kUnit, cols]; beyond the last row zeros.
class UnitRows {
 public:
  explicit UnitRows(const Matrix& matrix) : matrix_(matrix), codes_(static_cast<size_t>(kUnit) * static_cast<size_t>(matrix.cols)) {}
  void read(int first) {
    const size_t tile = static_cast<size_t>(kTile) * static_cast<size_t>(matrix_.cols);
    for (int i = 0; i < kUnit / kTile; ++i) {
      uint8_t* to = codes_.data() + static_cast<size_t>(i) * tile;
      first + i * kTile < matrix_.rows ? unpackTile(matrix_, first / kTile + i, to) : static_cast<void>(std::fill_n(to, tile, uint8_t{0}));
    }
  }
  uint8_t at(int row, int col) const { return codes_[static_cast<size_t>(row) * static_cast<size_t>(matrix_.cols) + static_cast<size_t>(col)]; }

 private:
  const Matrix& matrix_;
  std::vector<uint8_t> codes_;
};

// The values of a unit; code(i) is the i-th.
template <class CodeAt>
void writeUnit(const ChannelMajor& channels, const CodeFormat* format, std::byte* channel, int unit, CodeAt code) {
  std::byte* to = channel + bytesOf(channels.code, int64_t{unit} * kUnit);
  switch (channels.code) {
    case ChannelMajor::Code::nibbles:
      for (int i = 0; i < kUnit / 2; ++i) to[i] = static_cast<std::byte>(code(32 * (i % 4) + i / 4) | code(32 * (i % 4) + 16 + i / 4) << 4);
      break;
    case ChannelMajor::Code::bytes:
      for (int i = 0; i < kUnit; ++i) to[i] = static_cast<std::byte>(code(i / 64 * 64 + 16 * (i % 4) + i % 64 / 4));
      break;
    default:
      for (int i = 0; i < kUnit; ++i) {
        const uint16_t half = floatToF16(format->values[code(i)]);
        std::memcpy(to + 2 * i, &half, sizeof half);
      }
  }
}

void writeScale(const ChannelMajor& channels, size_t at, GroupScale s) {
  if (channels.wideScales) {
    channels.scales.as<float>()[at] = s.scale;
    if (channels.asymmetric) channels.mins.as<float>()[at] = s.min;
  } else {
    channels.scales.as<uint16_t>()[at] = floatToF16(s.scale);
    if (channels.asymmetric) channels.mins.as<uint16_t>()[at] = floatToF16(s.min);
  }
}

}  // namespace

ChannelMajor ChannelMajor::allocate(Ledger& ledger, const Matrix& matrix, bool columns) {
  const auto allocator = [&ledger](size_t bytes) {
    const auto buffer = std::make_shared<Buffer>(ledger, MemoryTag::weights, bytes);
    return Memory(buffer, buffer->data(), bytes);
  };
  return allocate(allocator, matrix, columns);
}

ChannelMajor ChannelMajor::allocate(const Allocator& allocator, const Matrix& matrix, bool columns) {
  const WeightFormat& format = matrix.format;
  const bool packed = format.storage == Storage::packed;
  CHECK(columns || packed, "rows of plain matrices lie in one piece");
  ChannelMajor out;
  out.code = codeOf(format);
  out.columns = columns;
  out.count = columns ? matrix.cols : matrix.rows;
  out.length = columns ? matrix.rows : matrix.cols;
  out.stride = (bytesOf(out.code, out.padded()) + 63) / 64 * 64;
  out.data = allocator(static_cast<size_t>(out.stride) * static_cast<size_t>(out.count));
  if (!packed) return out;
  const int groups = format.groups(matrix.cols);
  out.group = format.groupCols(matrix.cols);
  out.scaleStride = columns ? out.padded() : groups;
  out.wideScales = format.super > 0 || format.exponents();
  out.asymmetric = !format.symmetric;
  const size_t bytes = static_cast<size_t>(columns ? int64_t{groups} * out.padded() : int64_t{matrix.rows} * groups) * (out.wideScales ? 4 : 2);
  out.scales = allocator(bytes);
  if (out.asymmetric) out.mins = allocator(bytes);
  const CodeFormat* named = findCodeFormat(format.code);
  const float offset = format.symmetric ? static_cast<float>(1 << (format.bits - 1)) : 0;
  if (out.code == Code::bytes) out.offset = offset;
  if (out.code == Code::nibbles)
    for (int i = 0; i < (1 << format.bits); ++i) out.table[static_cast<size_t>(i)] = named ? named->values[static_cast<size_t>(i)] : static_cast<float>(i) - offset;
  return out;
}

bool ChannelMajor::fill(const Matrix& matrix, ThreadPool& pool, const Progress& progress) {
  if (group == 0) return code == Code::f32 ? transpose<uint32_t>(matrix, *this, pool, progress) : transpose<uint16_t>(matrix, *this, pool, progress);
  const CodeFormat* named = findCodeFormat(matrix.format.code);
  const int groups = matrix.format.groups(matrix.cols);
  return eachPiece((matrix.rows + kUnit - 1) / kUnit, pool, progress, [&](int64_t piece) {
    const int first = static_cast<int>(piece) * kUnit, rows = std::min(kUnit, matrix.rows - first);
    UnitRows codes(matrix);
    codes.read(first);
    if (columns) {
      for (int c = 0; c < matrix.cols; ++c)
        writeUnit(*this, named, data.as<std::byte>() + int64_t{c} * stride, static_cast<int>(piece), [&](int i) { return codes.at(i, c); });
    } else {
      for (int r = 0; r < rows; ++r)
        for (int unit = 0; unit * kUnit < matrix.cols; ++unit)
          writeUnit(*this, named, data.as<std::byte>() + (first + int64_t{r}) * stride, unit,
                    [&](int i) { return unit * kUnit + i < matrix.cols ? codes.at(r, unit * kUnit + i) : uint8_t{0}; });
    }
    for (int r = 0; r < rows; ++r)
      for (int g = 0; g < groups; ++g) {
        const int64_t at = columns ? g * scaleStride + first + r : (first + int64_t{r}) * scaleStride + g;
        writeScale(*this, static_cast<size_t>(at), groupScaleOf(matrix, first + r, g));
      }
  });
}

}  // namespace winnow
