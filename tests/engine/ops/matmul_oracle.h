// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products in double, and how far a backend may be from them.
//
// The bound. Every term of a sum passes through at most n roundings of relative size u = 2^-24: the product (twice, when the
// instruction set has no fma), the running sum of its lane (at most cols / 4 terms, or 32 * 3 terms and then one per chunk when packed),
// the horizontal sum (4), scale, bias, accumulation. So |error| <= n u sum |w| |x|, n = cols / 4 + 120. With a minimum, w = s q + m is
// summed as two parts, each of which may be larger than w: |s q| + |m| <= |w| + 2 |m|. Scales and minimums of super-blocks are products of
// 11 and 8 bits and so exact in f32. Values of a table are rounded once more when they meet the scale. NF4's levels become integers where x is int8:
// each is off by up to half a unit of 1/127 of the largest.
#pragma once
#include "engine/core/dtype.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"
#include "tests/engine/ops/harness.h"

namespace winnow::test {

struct Weights {  // a matrix whose buffers all end at guard pages
  Ledger ledger;
  Matrix m;
  Guarded<uint8_t> data;
  Guarded<uint16_t> scales, mins;
  Guarded<uint8_t> steps;
  Weights(const WeightFormat& format, int rows, int cols, const std::vector<float>& w)
      : m(Matrix::allocate(ledger, format, rows, cols)),
        data(m.codes.bytes()),
        scales(m.scaleBuffer.bytes() / 2),
        mins(m.minBuffer.bytes() / 2),
        steps(m.stepBuffer.bytes()) {
    if (format.super > 0) {
      fillSuperBlocks();
    } else if (format.storage == Storage::packed) {
      for (int r = 0; r < rows; r += 16)
        findQuantizeMethod("rtn")->quantizeRows(w.data() + static_cast<size_t>(r) * static_cast<size_t>(cols), r, std::min(16, rows - r), {},
                                                m);
    } else {
      for (size_t i = 0; i < w.size(); ++i) {
        if (format.storage == Storage::f32) m.codes.as<float>()[i] = w[i];
        if (format.storage == Storage::f16) m.codes.as<uint16_t>()[i] = floatToF16(w[i]);
        if (format.storage == Storage::bf16) m.codes.as<uint16_t>()[i] = floatToBf16(w[i]);
      }
    }
    std::memcpy(data.data(), m.data, data.size());
    m.data = data.data();
    if (m.scales) {
      std::memcpy(scales.data(), m.scales, scales.size() * 2);
      m.scales = scales.data();
    }
    if (m.mins) {
      std::memcpy(mins.data(), m.mins, mins.size() * 2);
      m.mins = mins.data();
    }
    if (m.steps) {
      std::memcpy(steps.data(), m.steps, steps.size());
      m.steps = steps.data();
    }
  }

 private:
  void fillSuperBlocks() {  // no method makes them: any codes, multiples and halves will do
    std::mt19937 rng(static_cast<uint32_t>(m.rows * 1000 + m.cols));
    std::vector<uint8_t> q(static_cast<size_t>(16 * m.cols));
    for (int tile = 0; tile * 16 < m.rows; ++tile) {
      for (int r = 0; r < 16; ++r)
        for (int k = 0; k < m.cols; ++k)
          q[static_cast<size_t>(r * m.cols + k)] = static_cast<uint8_t>(tile * 16 + r < m.rows ? rng() % (1u << m.format.bits) : 0);
      packTile(m, tile, q.data());
    }
    for (size_t i = 0; i < m.scaleBuffer.bytes() / 2; ++i) {
      m.scaleBuffer.as<uint16_t>()[i] = floatToF16(static_cast<float>(static_cast<int>(rng() % 2001) - 1000) / 50000);
      if (m.mins) m.minBuffer.as<uint16_t>()[i] = floatToF16(static_cast<float>(static_cast<int>(rng() % 2001) - 1000) / 9000);
    }
    for (size_t i = 0; i < m.stepBuffer.bytes(); ++i) m.stepBuffer.as<uint8_t>()[i] = static_cast<uint8_t>(rng());
  }
};

inline float minimumOf(const Matrix& m, int r, int k) {
  const WeightFormat& f = m.format;
  const auto place = [&](int perRow, int index) { return (r / 16 * perRow + index) * 16 + r % 16; };
  const int group = k / f.groupCols(m.cols);
  if (f.super == 0) return f16ToFloat(m.mins[place(f.groups(m.cols), group)]);
  return f16ToFloat(m.mins[place(f.scaleGroups(m.cols), k / f.super)]) * m.steps[place(2 * f.groups(m.cols), 2 * group + 1)];
}

inline double scaleOf(const Matrix& m, int r, int k) {  // of a format without super-blocks or exponents
  const WeightFormat& f = m.format;
  return static_cast<double>(f16ToFloat(m.scales[(r / 16 * f.groups(m.cols) + k / f.groupCols(m.cols)) * 16 + r % 16]));
}

inline float rounded(float x, ActivationMode mode) {
  if (mode == ActivationMode::f16) return f16ToFloat(floatToF16(x));
  if (mode == ActivationMode::bf16) return bf16ToFloat(floatToBf16(x));
  return x;
}

// x as the mode defines it.
inline std::vector<double> activations(const float* x, int cols, ActivationMode mode) {
  std::vector<double> out(static_cast<size_t>(cols));
  for (int k = 0; k < cols; ++k) out[static_cast<size_t>(k)] = rounded(x[k], mode);
  if (mode != ActivationMode::int8) return out;
  for (int begin = 0; begin < cols; begin += 32) {
    float largest = 0;
    const int end = std::min(begin + 32, cols);
    for (int k = begin; k < end; ++k) largest = std::max(largest, std::fabs(x[k]));
    const float scale = largest / 127.0f;
    for (int k = begin; k < end; ++k)
      out[static_cast<size_t>(k)] = scale == 0 ? 0.0 : static_cast<double>(scale) * std::nearbyintf(x[k] / scale);
  }
  return out;
}

struct Reference {
  std::vector<double> y, bound;  // [tokens][rows]
};

inline Reference reference(const Matrix& m, const Guarded<float>& x, int tokens, const std::vector<float>& bias, ActivationMode mode) {
  Reference out;
  std::vector<std::vector<float>> rows;
  std::vector<float> row(static_cast<size_t>(m.cols));
  for (int r = 0; r < m.rows; ++r) {
    dequantizeRow(m, r, row.data());
    rows.push_back(row);
  }
  for (int t = 0; t < tokens; ++t) {
    const auto xt = activations(x.data() + t * m.cols, m.cols, mode);
    for (int r = 0; r < m.rows; ++r) {
      double sum = bias[static_cast<size_t>(r)], magnitude = std::fabs(sum), levels = 0;
      for (int k = 0; k < m.cols; ++k) {
        const double w = rows[static_cast<size_t>(r)][static_cast<size_t>(k)], v = xt[static_cast<size_t>(k)];
        double size = std::fabs(w);
        if (mode == ActivationMode::int8 && m.format.code == Code::nf4) levels += scaleOf(m, r, k) / 254 * std::fabs(v);
        if (m.mins) size += 2 * std::fabs(minimumOf(m, r, k));
        sum += w * v;
        magnitude += size * std::fabs(v);
      }
      out.y.push_back(sum);
      out.bound.push_back(std::ldexp((m.cols / 4 + 120) * (magnitude + levels), -24) + levels + 1e-37);
    }
  }
  return out;
}

inline std::vector<WeightFormat> superFormats() {
  return {{Storage::packed, 4, 32, false, 256}, {Storage::packed, 5, 32, false, 256}, {Storage::packed, 4, 64, false, 192}};
}

// Codes that are no integers, and symmetric super-blocks with groups of half a chunk (they take whole chunks only).
inline std::vector<WeightFormat> codedFormats() {
  std::vector<WeightFormat> all;
  for (const CodeFormat& format : codeFormats())
    for (uint16_t group : {32, 64, 128, 0})
      if (!format.fixedGroup || format.group == group) all.push_back({Storage::packed, static_cast<uint8_t>(format.bits), group, true, 0, format.code});
  return all;
}
inline std::vector<WeightFormat> halvedFormats() { return {{Storage::packed, 6, 16, true, 256}, {Storage::packed, 3, 16, true, 256}}; }

inline std::vector<WeightFormat> formats() {
  std::vector<WeightFormat> all = {{Storage::f32, 32, 0, true}, {Storage::f16, 16, 0, true}, {Storage::bf16, 16, 0, true}};
  for (uint8_t bits : {2, 3, 4, 5, 6, 8})
    for (bool symmetric : {true, false})
      for (uint16_t group : {32, 64, 128, 0}) all.push_back({Storage::packed, bits, group, symmetric});
  return all;
}

}  // namespace winnow::test
