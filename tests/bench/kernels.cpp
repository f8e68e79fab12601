// SPDX-License-Identifier: GPL-3.0-or-later
// Speed of the CPU kernels beside what the machine gives in the same run: `bench_kernels [--threads N] [--quick] [--cpu-time] [--isa NAME]
// [part...]`, parts: matvec, gemm, attend, quantize. --cpu-time counts processor time of one thread: on a busy machine compute-bound
// figures hold, though not the shares, as the roofline is always taken from the clock. Rounds of roofline and kernel alternate; medians are
// printed, and the median of the rounds' ratios. A mat-vec streams 256 MiB of weights from memory.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <time.h>

#include "engine/core/dtype.h"
#include "engine/cpu/ops.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"
#include "engine/weights/blocks.h"
#include "tests/bench/bench.h"

using namespace winnow;
using namespace winnow::cpu;
using namespace winnow::bench;

namespace {

struct Options {
  int threads = 2;
  bool quick = false, cpuTime = false;
  std::vector<std::string> parts;
  bool wants(const char* part) const { return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end(); }
  int rounds() const { return quick ? 3 : 11; }
};

double cpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}
double seconds(const Options& options, const std::function<void()>& work) {
  const auto start = Clock::now();
  const double cpu = cpuSeconds();
  work();
  return options.cpuTime ? cpuSeconds() - cpu : secondsSince(start);
}

// Rate of `kernel` and its share of `roof`, alternating. One repetition of the kernel moves `amount` (GB or GFLOP).
struct Rates {
  double kernel, roof, share, bestKernel, bestRoof;
};
Rates compare(const Options& options, double amount, const std::function<void()>& kernel, const std::function<double()>& roof) {
  std::vector<double> k, r, share;
  kernel();
  for (int i = 0; i < options.rounds(); ++i) {
    r.push_back(roof());
    k.push_back(amount / seconds(options, kernel));
    share.push_back(k.back() / r.back());
  }
  return {median(k), median(r), median(share), *std::max_element(k.begin(), k.end()), *std::max_element(r.begin(), r.end())};
}

void fillRandom(void* p, size_t bytes) {
  std::mt19937_64 rng(1);
  auto* words = static_cast<uint64_t*>(p);
  for (size_t i = 0; i < bytes / 8; ++i) words[i] = rng();
}

Matrix randomMatrix(Ledger& ledger, const WeightFormat& format, int rows, int cols) {
  Matrix m = Matrix::allocate(ledger, format, rows, cols);
  fillRandom(m.codes.data(), m.codes.bytes());
  const size_t words = m.codes.bytes() / 2;
  if (format.storage == Storage::f32)  // finite values near one: exponent bits of 0.5 .. 2
    for (size_t i = 0; i < words / 2; ++i) m.codes.as<uint32_t>()[i] = (m.codes.as<uint32_t>()[i] & 0x807fffffu) | 0x3f000000u;
  if (format.storage == Storage::f16)
    for (size_t i = 0; i < words; ++i) m.codes.as<uint16_t>()[i] = static_cast<uint16_t>((m.codes.as<uint16_t>()[i] & 0x83ff) | 0x3800);
  if (format.storage == Storage::bf16)
    for (size_t i = 0; i < words; ++i) m.codes.as<uint16_t>()[i] = static_cast<uint16_t>((m.codes.as<uint16_t>()[i] & 0x807f) | 0x3f00);
  std::fill_n(m.scaleBuffer.as<uint16_t>(), m.scaleBuffer.bytes() / 2, uint16_t{0x2000});
  std::fill_n(m.minBuffer.as<uint16_t>(), m.minBuffer.bytes() / 2, uint16_t{0x9000});
  std::fill_n(m.stepBuffer.as<uint8_t>(), m.stepBuffer.bytes(), uint8_t{130});
  if (format.code == Code::e4m3 || format.code == Code::e5m2)  // no infinities
    for (size_t i = 0; i < m.codes.bytes(); ++i) m.codes.as<uint8_t>()[i] &= 0xbf;
  return m;
}

struct Case {
  WeightFormat format;
  ActivationMode mode;
};
const char* modeName(ActivationMode mode) {
  const char* names[] = {"f32", "f16", "bf16", "int8"};
  return names[static_cast<int>(mode)];
}
WeightFormat packed(int bits, bool symmetric = true) { return {Storage::packed, static_cast<uint8_t>(bits), 32, symmetric}; }
std::vector<Case> cases() {
  std::vector<Case> all = {{{Storage::f32, 32, 0, true}, ActivationMode::f32}, {{Storage::f16, 16, 0, true}, ActivationMode::f16},
                           {{Storage::bf16, 16, 0, true}, ActivationMode::f32}, {{Storage::bf16, 16, 0, true}, ActivationMode::bf16}};
  for (int bits : {8, 4})
    for (ActivationMode mode : {ActivationMode::int8, ActivationMode::bf16, ActivationMode::f16, ActivationMode::f32})
      all.push_back({packed(bits), mode});
  all.push_back({packed(4, false), ActivationMode::f16});
  for (ActivationMode mode : {ActivationMode::int8, ActivationMode::f16}) all.push_back({*exactFormat(DType::q4_k), mode});
  for (const CodeFormat& format : codeFormats())
    for (ActivationMode mode : {ActivationMode::int8, ActivationMode::f16}) {
      const WeightFormat coded{Storage::packed, static_cast<uint8_t>(format.bits), static_cast<uint16_t>(format.group), true, 0, format.code};
      if (mode != ActivationMode::int8 || coded.dotsInt8()) all.push_back({coded, mode});
    }
  for (DType type : {DType::q6_k, DType::q3_k})
    for (ActivationMode mode : {ActivationMode::int8, ActivationMode::f16}) all.push_back({*exactFormat(type), mode});
  for (int bits : {6, 5, 3, 2})
    for (ActivationMode mode : {ActivationMode::int8, ActivationMode::f16}) all.push_back({packed(bits), mode});
  return all;
}

void benchMatvec(Context& context, const Options& options) {
  std::printf("mat-vec, 256 MiB of weights\n%-18s %-5s %10s %10s %8s %10s %10s\n", "weights", "x", "GB/s", "read GB/s", "share", "best",
              "best read");
  constexpr int kCols = 4096;
  for (const Case& c : cases()) {
    const size_t perRow = c.format.bytes(16, kCols) / 16;
    const int rows = static_cast<int>((size_t{256} << 20) / perRow) / 16 * 16;
    Ledger ledger;
    const Matrix w = randomMatrix(ledger, c.format, rows, kCols);
    std::vector<float> x(kCols, 0.01f), y(static_cast<size_t>(rows));
    const MatmulTarget target{&w, y.data(), rows, nullptr, false};
    const Rates r = compare(options, static_cast<double>(w.bytes()) * 1e-9,
                            [&] { matmul(context, {&target, 1}, x.data(), kCols, 1, c.mode); },
                            [&] { return measureReadBandwidth(context, size_t{256} << 20); });
    std::printf("%-18s %-5s %10.1f %10.1f %7.0f%% %10.1f %10.1f\n", c.format.describe().c_str(), modeName(c.mode), r.kernel, r.roof,
                r.share * 100, r.bestKernel, r.bestRoof);
    std::fflush(stdout);
  }
}

void benchGemm(Context& context, const Options& options) {
  std::printf("matrix product, 2048 x 2048, 512 tokens\n%-18s %-5s %10s %10s %8s %10s %10s\n", "weights", "x", "GFLOP/s", "peak", "share",
              "best", "best peak");
  constexpr int kRows = 2048, kCols = 2048, kTokens = 512;
  for (const Case& c : cases()) {
    Ledger ledger;
    const Matrix w = randomMatrix(ledger, c.format, kRows, kCols);
    std::vector<float> x(static_cast<size_t>(kCols) * kTokens, 0.01f), y(static_cast<size_t>(kRows) * kTokens);
    const MatmulTarget target{&w, y.data(), kRows, nullptr, false};
    const Rates r = compare(
        options, 2e-9 * kRows * kCols * kTokens, [&] { matmul(context, {&target, 1}, x.data(), kCols, kTokens, c.mode); },
        [&] {
          const bool integers = c.format.code == Code::integer && c.format.group != 16;  // others multiply as f32, as 8 bits do
          return measurePeak(context, c.format.storage, c.mode, integers ? c.format.bits : 8);
        });
    std::printf("%-18s %-5s %10.1f %10.1f %7.0f%% %10.1f %10.1f\n", c.format.describe().c_str(), modeName(c.mode), r.kernel, r.roof,
                r.share * 100, r.bestKernel, r.bestRoof);
    std::fflush(stdout);
  }
}

void benchAttend(Context& context, const Options& options) {
  constexpr int kHeads = 32, kKvHeads = 8, kDim = 128, kPage = 64, kSlots = 8192, kQueries = 512;
  const size_t pageWords = kPage * kDim, pages = kSlots / kPage;
  std::vector<uint16_t> cache(pageWords * pages * kKvHeads * 2);
  std::vector<float> values(pageWords);
  std::mt19937 rng(2);
  std::normal_distribution<float> normal;
  for (float& v : values) v = normal(rng);
  for (size_t p = 0; p < cache.size() / pageWords; ++p)
    storeHalf(values.data(), static_cast<int64_t>(pageWords), cache.data() + p * pageWords);
  std::vector<const uint16_t*> tables(pages * kKvHeads * 2);
  for (size_t i = 0; i < tables.size(); ++i) tables[i] = cache.data() + i * pageWords;
  std::vector<float> q(static_cast<size_t>(kQueries) * kHeads * kDim), out(q.size());
  for (float& v : q) v = normal(rng);
  std::vector<KvHead> kv(kKvHeads);
  AttendArgs args{.heads = kHeads, .kvHeads = kKvHeads, .headDim = kDim, .queries = 1, .pageTokens = kPage};
  args.q = q.data();
  args.qStride = args.outStride = kHeads * kDim;
  args.kv = kv.data();
  args.scale = 0.088388f;
  args.out = out.data();
  const auto setTokens = [&](int tokens) {
    for (size_t h = 0; h < kKvHeads; ++h) kv[h] = {tables.data() + h * pages, tables.data() + (kKvHeads + h) * pages, tokens, nullptr};
  };
  std::printf("attention, 32 heads of 128 over 8 kv heads\n");
  setTokens(kSlots);
  const Rates d = compare(options, 2e-9 * static_cast<double>(cache.size()), [&] { attend(context, args); },
                          [&] { return measureReadBandwidth(context, size_t{64} << 20); });
  std::printf("decode, %d slots (%zu MiB): %.1f GB/s, read %.1f GB/s, share %.0f%%, best %.1f\n", kSlots, cache.size() >> 19, d.kernel,
              d.roof, d.share * 100, d.bestKernel);
  args.queries = kQueries;
  setTokens(kQueries);
  const double flop = 4e-9 * kHeads * kDim * (kQueries * (kQueries + 1.0) / 2);
  const Rates p =
      compare(options, flop, [&] { attend(context, args); }, [&] { return measurePeak(context, Storage::f32, ActivationMode::f32, 32); });
  std::printf("prefill, %d queries: %.1f GFLOP/s (visible pairs), f32 peak %.1f, share %.0f%%, best %.1f\n", kQueries, p.kernel, p.roof,
              p.share * 100, p.bestKernel);
}

void benchQuantize(Context& context, const Options& options) {
  constexpr int kRows = 4096, kCols = 4096, kTiles = kRows / 16;
  std::printf("conversion of a %d x %d matrix\n", kRows, kCols);
  std::vector<float> source(size_t{64} * kCols);
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  for (float& v : source) v = normal(rng);
  const auto measure = [&](const WeightFormat& format, double amount, const std::function<void(int, Matrix&)>& tile) {
    Ledger ledger;
    Matrix m = Matrix::allocate(ledger, format, kRows, kCols);
    std::vector<double> rates;
    for (int i = 0; i <= options.rounds(); ++i) {
      const double s = seconds(options, [&] {
        context.pool().run([&](int thread, int threads) {
          const auto range = ThreadPool::split(kTiles, 1, thread, threads);
          for (int64_t t = range.begin; t < range.end; ++t) tile(static_cast<int>(t), m);
        });
      });
      if (i > 0) rates.push_back(amount / s);
    }
    return std::pair(median(rates), *std::max_element(rates.begin(), rates.end()));
  };
  for (int bits : {8, 6, 5, 4, 3, 2})
    for (bool symmetric : {true, false}) {
      const auto [rate, best] = measure(packed(bits, symmetric), 1e-9 * kRows * kCols, [&](int t, Matrix& m) {
        findQuantizeMethod("rtn")->quantizeRows(source.data() + static_cast<size_t>(t % 4) * 16 * kCols, t * 16, 16, {}, m);
      });
      std::printf("rtn %-14s %6.2f Gweight/s, %.2f per thread, best %.2f\n", packed(bits, symmetric).describe().c_str(), rate,
                  rate / options.threads, best);
    }
  for (DType type : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k}) {
    const size_t stride = static_cast<size_t>(dtypeTraits(type).blockBytes * (kCols / dtypeTraits(type).blockValues));
    std::vector<std::byte> file(stride * kRows);
    fillRandom(file.data(), file.size());
    const auto [rate, best] = measure(*exactFormat(type), 1e-9 * static_cast<double>(file.size()), [&](int t, Matrix& m) {
      packBlocksExactly(type, file.data() + static_cast<size_t>(t) * 16 * stride, stride, 16, t * 16, m);
    });
    std::printf("repack %-11s %6.2f GB/s, %.2f per thread, best %.2f\n", std::string(dtypeTraits(type).name).c_str(), rate,
                rate / options.threads, best);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Isa isa = bestIsa();
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--quick") {
      options.quick = true;
    } else if (arg == "--cpu-time") {
      options.cpuTime = true;
    } else if (arg == "--threads" && i + 1 < argc && std::atoi(argv[i + 1]) > 0) {
      options.threads = std::atoi(argv[++i]);
    } else if (arg == "--isa" && i + 1 < argc) {
      const std::string name = argv[++i];
      isa = name == "scalar" ? Isa::scalar : name == "avx2" ? Isa::avx2 : Isa::avx512;
    } else if (arg.starts_with("-")) {
      std::fprintf(
          stderr,
          "usage: bench_kernels [--threads N] [--quick] [--cpu-time] [--isa scalar|avx2|avx512] [matvec] [gemm] [attend] [quantize]\n");
      return 2;
    } else {
      options.parts.push_back(arg);
    }
  }
  if (options.cpuTime) options.threads = 1;
  ThreadPool pool(options.threads);
  Context context(pool, isa);
  std::printf("%s, %d threads, %d rounds\n", isaName(isa).c_str(), options.threads, options.rounds());
  if (options.wants("matvec")) benchMatvec(context, options);
  if (options.wants("gemm")) benchGemm(context, options);
  if (options.wants("attend")) benchAttend(context, options);
  if (options.wants("quantize")) benchQuantize(context, options);
  return 0;
}
