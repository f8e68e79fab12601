// SPDX-License-Identifier: GPL-3.0-or-later
// Processor seconds and MB/s for encoding one text with each vocabulary: bench_tokenizer TEXT VOCABULARY...; the fastest of 5 runs, and the
// time to build the tokenizer.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/text/tokenizer.h"

namespace {

// Processor time of this thread: other programs on the machine do not count.
double secondsOf(const auto& work) {
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  const double begin = now();
  work();
  return now() - begin;
}

bool measure(const std::string& path, const std::string& text) {
  auto vocab = winnow::Model::openVocab(path);
  if (!vocab) {
    std::fprintf(stderr, "%s\n", vocab.error().message.c_str());
    return false;
  }
  std::shared_ptr<const winnow::Tokenizer> tokenizer;
  const double create = secondsOf([&] {
    if (auto made = winnow::Tokenizer::create(std::move(*vocab))) tokenizer = *made;
    else std::fprintf(stderr, "%s: %s\n", path.c_str(), made.error().message.c_str());
  });
  if (!tokenizer) return false;
  double best = 1e9;
  size_t tokens = 0;
  for (int i = 0; i < 5; ++i) best = std::min(best, secondsOf([&] { tokens = tokenizer->encode(text, false).size(); }));
  const std::string name = path.substr(path.find_last_of('/') + 1);
  std::printf("%-40s create %.3f s   encode %.4f s   %7.1f MB/s   %zu tokens\n", name.c_str(), create, best, static_cast<double>(text.size()) / best / 1e6, tokens);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: bench_tokenizer TEXT VOCABULARY...\n");
    return 2;
  }
  std::ifstream in(argv[1], std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  if (text.empty()) {
    std::fprintf(stderr, "%s: no text\n", argv[1]);
    return 3;
  }
  bool good = true;
  for (int i = 2; i < argc; ++i) good &= measure(argv[i], text);
  return good ? 0 : 1;
}
