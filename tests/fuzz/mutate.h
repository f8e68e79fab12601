// SPDX-License-Identifier: GPL-3.0-or-later
// A mutation driver for parsers. Deterministic: the same seed and corpus give the same inputs on every machine.
//
//   winnow::fuzz::Options o{.iterations = 20000, .seconds = 5, .seed = 1};
//   auto report = winnow::fuzz::run(corpus, o, [](std::span<const std::byte> input) { return parse(input).ok(); });
//
// The parser says whether it accepted; what it must not do is crash, hang, or throw. report.failures counts inputs that threw or
// took longer than `slowSeconds`; the first is kept in report.firstBad. Crashes are left to the sanitizer, which is why the
// target should write nothing else between taking the input and parsing it.
#pragma once
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace winnow::fuzz {

class Random {  // splitmix64
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return n == 0 ? 0 : static_cast<size_t>(next() % n); }

 private:
  uint64_t state_;
};

struct Options {
  int64_t iterations = 20000;
  double seconds = 5;         // stops earlier when time is up
  uint64_t seed = 1;
  size_t mutateFirst = 1 << 16;  // only this much of an input is changed: the rest is data
  double slowSeconds = 5;     // an input that takes longer counts as a failure
};

struct Report {
  int64_t runs = 0, accepted = 0, failures = 0;
  double seconds = 0;
  std::string firstBad;   // the input
  std::string firstWhat;  // what it did
};

namespace detail {

// Where to change: often near the beginning, where headers are.
inline size_t place(const std::string& s, const Options& o, Random& r) {
  const size_t n = s.size() < o.mutateFirst ? s.size() : o.mutateFirst;
  return r.below(r.below(3) == 0 ? (n < 64 ? n : 64) : n);
}

inline void extremeInteger(std::string& s, size_t at, Random& r) {
  const std::array<uint64_t, 14> extremes = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                             0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff};
  const size_t sizes[] = {1, 2, 4, 8}, size = sizes[r.below(4)];
  uint64_t value = r.below(3) == 0 ? s.size() + r.below(5) - 2 : extremes[r.below(extremes.size())];
  if (r.below(8) == 0) value <<= r.below(64);
  if (at + size <= s.size()) std::memcpy(s.data() + at, &value, size);
}

// Numbers as text, for JSON.
inline void extremeNumber(std::string& s, size_t from, Random& r) {
  const char* numbers[] = {
      "0",    "-1", "1",  "2147483648", "4294967296", "9223372036854775808", "99999999999999999999999", "1e999", "-0.5", "1e-400",
      "null", "[]", "{}", "\"\"",       "true"};
  const size_t begin = s.find_first_of("0123456789", from);
  if (begin == std::string::npos) return;
  const size_t end = s.find_first_not_of("0123456789.eE+-", begin);
  s.replace(begin, (end == std::string::npos ? s.size() : end) - begin, numbers[r.below(std::size(numbers))]);
}

inline void once(std::string& s, std::span<const std::string> corpus, const Options& o, Random& r) {
  if (s.empty()) s = "x";
  const size_t at = place(s, o, r), length = 1 + r.below(r.below(4) == 0 ? 256 : 16);
  switch (r.below(10)) {
    case 0: s[at] = static_cast<char>(s[at] ^ 1 << r.below(8)); break;
    case 1: s[at] = static_cast<char>(r.next()); break;
    case 2: case 3: extremeInteger(s, at, r); break;
    case 4: s.resize(r.below(2) ? at : s.size() - r.below(s.size())); break;
    case 5: s.erase(at, length); break;
    case 6: s.insert(at, s.substr(place(s, o, r), length)); break;
    case 7: {  // splice from another input
      const std::string& other = corpus[r.below(corpus.size())];
      if (other.empty()) break;
      const size_t from = r.below(other.size() < o.mutateFirst ? other.size() : o.mutateFirst);
      s.replace(at, r.below(2) ? length : 0, other, from, length);
      break;
    }
    case 8: extremeNumber(s, at, r); break;
    default: {  // swap two pieces of equal length
      const size_t other = place(s, o, r);
      for (size_t i = 0; i < length && at + i < s.size() && other + i < s.size(); ++i) std::swap(s[at + i], s[other + i]);
    }
  }
}

}  // namespace detail

inline std::string mutated(std::span<const std::string> corpus, const Options& options, Random& random) {
  std::string input = corpus[random.below(corpus.size())];
  for (size_t n = 1 + random.below(random.below(4) == 0 ? 16 : 3); n > 0; --n) detail::once(input, corpus, options, random);
  return input;
}

template <class Parse>
Report run(std::span<const std::string> corpus, const Options& options, Parse&& parse) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  Report report;
  const auto begin = Clock::now();
  for (int64_t i = -static_cast<int64_t>(corpus.size()); i < options.iterations && since(begin) < options.seconds; ++i) {
    Random random(options.seed * 0x100000001b3ull + static_cast<uint64_t>(i));
    // First the corpus as it is.
    const std::string input =
        i < 0 ? corpus[static_cast<size_t>(i + static_cast<int64_t>(corpus.size()))] : mutated(corpus, options, random);
    const auto start = Clock::now();
    std::string what;
    try {
      report.accepted += parse(std::as_bytes(std::span(input.data(), input.size()))) ? 1 : 0;
    } catch (const std::exception& e) {
      what = std::string("threw: ") + e.what();
    }
    if (what.empty() && since(start) > options.slowSeconds) what = "took " + std::to_string(since(start)) + " s";
    ++report.runs;
    if (what.empty()) continue;
    ++report.failures;
    if (report.firstWhat.empty()) {
      report.firstWhat = what;
      report.firstBad = input;
    }
  }
  report.seconds = since(begin);
  return report;
}

}  // namespace winnow::fuzz
