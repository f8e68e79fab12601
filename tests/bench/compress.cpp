// SPDX-License-Identifier: GPL-3.0-or-later
// Weight methods measured beside each other: perplexity and KL divergence against the same model with every knob at its default, on text that
// the calibration did not see.
//   bench_compress MODEL TEXT CALIBRATION [--context N] [--chunks N] [--tokens N] [--bits 4,3,2] [--set knob=value]... [--only NAME,..]
// A configuration is named METHOD or METHOD+VARIANT as printed. --bits formats measures other codes than integers beside integers of their size.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "engine/evaluate/perplexity.h"
#include "engine/run/engine.h"
#include "engine/text/tokenizer.h"
#include "tests/bench/bench.h"

namespace {

using namespace winnow;
using namespace winnow::bench;
constexpr const char* kOtherCodes = "formats";  // among --bits
using Settings = std::vector<std::pair<std::string, std::string>>;

struct Variant {
  const char* name;
  Settings settings;
};
const std::vector<Variant> kVariants = {
    {"rtn", {{"weights.method", "rtn"}}},
    {"gptq", {{"weights.method", "gptq"}}},
    {"gptq in order", {{"weights.method", "gptq"}, {"weights.act_order", "false"}}},
    {"awq", {{"weights.method", "awq"}}},
    {"awq without clip", {{"weights.method", "awq"}, {"weights.clip", "false"}}},
    {"rtn int8", {{"weights.method", "rtn"}, {"compute.activations", "int8"}}},
    {"smoothquant 0.5", {{"weights.method", "smoothquant"}}},
    {"smoothquant 0.8", {{"weights.method", "smoothquant"}, {"weights.smoothing", "0.8"}}},
    {"aser 8", {{"weights.method", "aser"}, {"weights.error_rank", "8"}}},
    {"aser 16", {{"weights.method", "aser"}, {"weights.error_rank", "16"}}},
    {"aser 32", {{"weights.method", "aser"}, {"weights.error_rank", "32"}}},
    {"gptq rank 16", {{"weights.method", "gptq"}, {"weights.error_rank", "16"}}},
    {"awq rank 16", {{"weights.method", "awq"}, {"weights.error_rank", "16"}}},
};

// Codes beside integers that take as many bytes.
const std::vector<Variant> kFormats = {
    {"integers, groups of 64", {{"weights.bits", "4"}, {"weights.group", "64"}}},
    {"nf4", {{"weights.format", "nf4"}}},
    {"nf4 gptq", {{"weights.format", "nf4"}, {"weights.method", "gptq"}}},
    {"nf4 awq", {{"weights.format", "nf4"}, {"weights.method", "awq"}}},
    {"mxfp4", {{"weights.format", "mxfp4"}}},
    {"mxfp4 gptq", {{"weights.format", "mxfp4"}, {"weights.method", "gptq"}}},
    {"integers, whole rows", {{"weights.bits", "8"}, {"weights.group", "row"}}},
    {"fp8-e4m3", {{"weights.format", "fp8-e4m3"}}},
    {"fp8-e5m2", {{"weights.format", "fp8-e5m2"}}},
};

struct Options {
  std::string model, text, calibration, only;
  int context = 256, chunks = 40, tokens = 16384;
  std::vector<std::string> bits = {"4", "3", "2"};
  Settings set;
};

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string one; std::getline(in, one, ',');) out.push_back(one);
  return out;
}

Options parse(int argc, char** argv) {
  Options out;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      files.push_back(word);
      continue;
    }
    if (i + 1 == argc) stop(word + " needs a value.");
    const std::string value = argv[++i];
    const size_t equals = value.find('=');
    if (word == "--context") out.context = std::atoi(value.c_str());
    else if (word == "--chunks") out.chunks = std::atoi(value.c_str());
    else if (word == "--tokens") out.tokens = std::atoi(value.c_str());
    else if (word == "--bits") out.bits = words(value);
    else if (word == "--only") out.only = "," + value + ",";
    else if (word == "--set" && equals != std::string::npos) out.set.emplace_back(value.substr(0, equals), value.substr(equals + 1));
    else stop("unknown option " + word + ".");
  }
  if (files.size() != 3) stop("expected MODEL TEXT CALIBRATION.");
  out.model = files[0];
  out.text = files[1];
  out.calibration = files[2];
  return out;
}

class Meter {
 public:
  explicit Meter(const Options& options) : options_(options), engine_(need(Engine::create(need(Model::open(options.model)), EngineOptions{}))) {
    if (!engine_->tokenizer()) stop(options.model + " holds no tokenizer.");
    std::ifstream in(options.text, std::ios::binary);
    text_.assign(std::istreambuf_iterator<char>(in), {});
    if (text_.empty()) stop(options.text + " can't be read.");
    baseline_ = need(engine_->createSession(Config(), {.context = options.context}, Progress{}));
    request_.context = options.context;
    request_.chunks = options.chunks;
  }

  void baseline() {
    const auto result = need(measurePerplexity(*baseline_, nullptr, *engine_->tokenizer(), text_, request_, {}));
    std::printf("%s, %s, %s, %lld predictions; calibrated on %d tokens of %s\n\n", options_.model.c_str(), options_.text.c_str(), result.protocol.c_str(),
                static_cast<long long>(result.count), options_.tokens, options_.calibration.c_str());
    std::printf("| bits | method | perplexity | mean KLD | 99 %% KLD | same top token | prepared in |\n|---|---|---|---|---|---|---|\n");
    std::printf("| file | | %.4f ± %.4f | | | | |\n", result.perplexity, result.stderror);
  }

  void row(const std::string& bits, const Variant& variant) {
    Config config;
    Settings all = {{"calibration.text", options_.calibration}, {"calibration.tokens", std::to_string(options_.tokens)}};
    if (bits != kOtherCodes) all.emplace_back("weights.bits", bits);
    all.insert(all.end(), variant.settings.begin(), variant.settings.end());
    all.insert(all.end(), options_.set.begin(), options_.set.end());
    for (const auto& [name, value] : all) config = need(config.parsed(name, value));
    const auto start = Clock::now();
    const auto session = need(engine_->createSession(config, {.context = options_.context}, Progress{}));
    const double seconds = secondsSince(start);
    const auto result = need(measurePerplexity(*session, baseline_.get(), *engine_->tokenizer(), text_, request_, {}));
    const int64_t width = session->effective()->config.integer("weights.bits");
    std::printf("| %lld | %s | %.4f ± %.4f | %.5f ± %.5f | %.4f | %.2f %% | %.2f s |\n", static_cast<long long>(width), variant.name, result.perplexity, result.stderror,
                result.kld->mean, result.kld->meanStderr, result.kld->p99, 100 * result.kld->top1, seconds);
    for (const Adjustment& adjustment : session->effective()->adjustments)
      std::printf("|  | %s | %s | | | | |\n", adjustment.knob.c_str(), adjustment.reason.c_str());
    std::fflush(stdout);
  }

 private:
  const Options& options_;
  std::shared_ptr<Engine> engine_;
  std::string text_;
  std::unique_ptr<Session> baseline_;
  PerplexityRequest request_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Meter meter(options);
  meter.baseline();
  for (const std::string& bits : options.bits)
    for (const Variant& variant : bits == kOtherCodes ? kFormats : kVariants)
      if (options.only.empty() || options.only.find("," + std::string(variant.name) + ",") != std::string::npos) meter.row(bits, variant);
  return 0;
}
