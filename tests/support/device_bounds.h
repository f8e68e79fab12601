// SPDX-License-Identifier: GPL-3.0-or-later
// How far the logits of two backends may lie apart, in units of their norm.
//
// Between roundings both compute in f32 and differ by some 1e-6 of the norm. Keys, values and 16-bit activations are rounded, and a value
// that lies next to the middle between two neighbours may go apart by one step, 2^-10 of it for f16. About one in 1e6 * 2^-11, that is a few
// in a thousand, lies so. A difference of norm 2^-10 |logits| would need a step in all of them; 2^-8 with bf16, where steps are eight times
// as wide and as many.
//
// Before products of 16-bit inputs the device's prompt attention multiplies queries and probabilities of 11 bits as well (attend_prefill.cuh), each
// rounded by 2^-11 at most. Scores of size 1 move by as much, probabilities by twice that and by their own rounding, and what attention adds in each
// of the three layers of the models compared by 3 * 2^-11. A first row has one key and nothing of this. (Four random models, 4 bit, a prompt of 40:
// 0.7e-3 to 1.3e-3 with it, 0.5e-3 to 0.6e-3 with attention of 22 bits.)
//
// Steps of int8 are 1/127 of the largest of a group of 32, and one of them moves others of the next layer, and of every later row, over their
// own middles: after the first step apart two sessions differ as much as int8 differs from f32 (about 1 %). So all that holds for every row
// is the bound of steps in all values, sqrt(32) / 127 (a group's norm is at least its largest). What tells int8 from anything else is a row
// before the first step apart: with some 550 values a row and 1e-6 * 127 steps each, seven first rows in eight have none.
//
// A code of a quantized cache goes apart by one step, 1/(2^bits - 1) of its group's range, which is at most twice the group's norm. Few do,
// but each moves what attention gives by more than 2^-10: rows behind one hold this bound alone. The pages themselves are compared byte for
// byte (tests/cuda_emulation/sealed_test.cpp), and rows before the first sealed page within the bound of 16 bits.
#pragma once

namespace winnow::test {

constexpr double kBound = 0x1p-10, kBf16Bound = 0x1p-8, kInt8Bound = 5.66 / 127;
constexpr double kPromptRounding = 3 * 3 * 0x1p-11;
constexpr double codesBound(int bits) { return 2.0 / ((1 << bits) - 1); }

}  // namespace winnow::test
