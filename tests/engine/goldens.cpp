// SPDX-License-Identifier: GPL-3.0-or-later
// Greedy tokens that llama.cpp c392e50 generates with the f32 models (shared data, REFERENCE.md): 64 of them, identical.
#include <algorithm>

#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Golden {
  const char *model, *prompt;
  std::vector<int32_t> promptIds, ids;
  const char* text;
};

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> all = {
    {"models/stories260K-f32.gguf", "Once upon a time",
       {1, 403, 407, 261, 378},
       {432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265,
       282, 295, 433, 426, 385, 328, 432, 358, 394, 261, 370, 432, 352, 266, 268, 388, 426, 338, 391, 266, 267, 337, 335,
       312, 432, 398, 312, 286, 267, 414, 270, 333, 415, 426, 13, 438, 310, 439, 419, 357, 336},
       ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. "
       "She wanted to play with it, but it was too high.\nLily's mom said"},
    {"models/stories260K-f32.gguf", "The dog",
       {1, 291, 400, 428},
       {286, 261, 370, 432, 352, 266, 268, 388, 426, 346, 397, 355, 267, 337, 335, 345, 268, 388, 426, 346, 397, 355, 267,
       337, 335, 345, 268, 388, 426, 346, 397, 355, 267, 337, 335, 345, 268, 388, 426, 346, 397, 355, 267, 337, 335, 345,
       268, 388, 426, 13, 441, 416, 411, 328, 432, 261, 376, 268, 414, 422, 395, 326, 280, 314},
       " was a big, red ball. He liked to play with his ball. He liked to play with his ball. He liked to play with his "
       "ball. He liked to play with his ball.\nOne day, a little boy named Tim cam"},
    {"models/tinystories-instruct-3m-chat-f32.gguf", "Once upon a time",
       {5490, 2218, 257, 638},
       {11, 610, 373, 257, 1270, 2360, 3219, 9824, 13, 1330, 373, 833, 8449, 290, 4768, 284, 5415, 262, 978, 1068, 605, 13,
       1773, 1088, 11, 670, 2735, 284, 467, 319, 257, 5260, 284, 1044, 257, 1258, 284, 5415, 13, 198, 1641, 670, 373, 4771,
       11, 670, 2294, 257, 1232, 11, 4057, 8515, 13, 1330, 2070, 284, 2133, 340, 11, 475, 670, 373, 1140, 7460},
       ", there was a little girl named Lily. She was very brave and loved to explore the world around her. One day, she"
       " decided to go on a journey to find a place to explore.\nAs she was walking, she saw a big, beautiful flower. "
       "She wanted to pick it, but she was too scared"},
    {"models/tinystories-instruct-3m-chat-f32.gguf", "Lily and Tom went to the park. They",
       {43, 805, 290, 3568, 1721, 284, 262, 3401, 13, 1097},
       {2294, 257, 1232, 6960, 13, 1097, 2070, 284, 467, 319, 262, 6960, 13, 1097, 9801, 509, 262, 9332, 13, 1097, 9801, 509,
       262, 9332, 13, 1097, 2294, 262, 6960, 13, 1097, 2294, 262, 6960, 13, 1097, 2638, 262, 6960, 13, 198, 1, 10279, 11,
       796, 379, 262, 6960, 2277, 9824, 530, 13, 1330, 3613, 262, 6960, 13, 1330, 11449, 853, 262, 6960, 13, 1330},
       " saw a big slide. They wanted to go on the slide. They climbed up the ladder. They climbed up the ladder. They "
       "saw the slide. They saw the slide. They felt the slide.\n\"Wow, look at the slide!\" Lily said. She reached the "
       "slide. She slid down the slide. She"},
  };
  return all;
}

}  // namespace

TEST(greedy_tokens_equal_those_of_llama_cpp) {
  for (const Golden& golden : goldens()) {
    const auto engine = openEngine(golden.model);
    const auto session = makeSession(engine);
    ok(session->prefill(golden.promptIds, {}));
    const std::vector<int32_t> ids = generate(*session, static_cast<int>(golden.ids.size()));
    const auto differs = std::mismatch(ids.begin(), ids.end(), golden.ids.begin()).first - ids.begin();
    EXPECT(ids == golden.ids, golden.model, golden.prompt, "first difference at token", differs);
#ifdef WINNOW_HAS_TEXT
    EXPECT(engine->tokenizer()->encode(golden.prompt, true) == golden.promptIds, golden.prompt);
    std::string text;
    for (const int32_t id : ids) text += engine->tokenizer()->piece(id);
    EXPECT_EQ(text, std::string(golden.text));
#endif
  }
}
