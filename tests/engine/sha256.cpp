// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/core/sha256.h"

#include "tests/support/check.h"

using namespace winnow;

TEST(published_vectors) {  // FIPS 180-4 examples
  EXPECT_EQ(sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256Hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256Hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(pieces_give_the_digest_of_the_whole) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 37 >> 2);
  const std::string whole = sha256Hex(text);
  for (size_t step = 1; step < 200; ++step) {
    Sha256 h;
    for (size_t i = 0; i < text.size(); i += step) h.update(std::string_view(text).substr(i, step));
    EXPECT_EQ(h.hex(), whole);
    EXPECT_EQ(h.hex(), whole);  // reading the digest changes nothing
  }
}

TEST(accelerated_equals_portable) {
  const auto fast = detail::sha256Accelerated();
  if (!fast) SKIP("this processor has no SHA instructions");
  std::vector<uint8_t> data(64 * 9);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * i * 31 + i);
  for (size_t blocks = 0; blocks <= 9; ++blocks) {
    uint32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 0xfffffff0}, b[8] = {1, 2, 3, 4, 5, 6, 7, 0xfffffff0};
    detail::sha256Portable(a, data.data(), blocks);
    fast(b, data.data(), blocks);
    EXPECT_EQ(std::memcmp(a, b, sizeof a), 0);
  }
}
