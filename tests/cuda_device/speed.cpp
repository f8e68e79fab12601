// SPDX-License-Identifier: GPL-3.0-or-later
// What the engine reaches of what this device was measured to do in the same process.
#include <map>

#include "tests/cuda_device/report.h"
#include "tests/cuda_device/speed_model.h"

namespace winnow::device_run {
namespace {

constexpr size_t kReadBytes = size_t{2} << 30;

std::string labelOf(const char* what, const std::string& shape, const std::string& format, int size) {
  return std::string(what) + " " + shape + " " + format + " " + std::to_string(size);
}

size_t freeBytes() {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) throw std::runtime_error("cudaMemGetInfo");
  return free;
}

// Weights, twice (a set being replaced), cache and rows must fit.
bool fits(double billions, const std::string& format, double cacheGib) {
  const double bytesPerWeight = format == "bf16" ? 2 : format == "q8" ? 1.1 : 0.6;
  return static_cast<double>(freeBytes()) > billions * 1e9 * bytesPerWeight + (cacheGib + 2) * (1 << 30);
}

double readBandwidth() {
  cuda::OwnStream stream;
  return cuda::measureReadBandwidth(stream.get(), std::min(kReadBytes, freeBytes() / 4));
}

struct Shape {
  const char* name;
  double billions, kvGibPer32k;
};
constexpr Shape kShapes[] = {{"8b", 8.1, 4.1}, {"1b", 1.3, 1.1}};

void decodeCase(Recorder& recorder, const Shape& shape, const std::string& format, int context, double gbs) {
  const std::string name = labelOf("decode", shape.name, format, context);
  if (!fits(shape.billions, format, shape.kvGibPer32k * context / 32768)) return recorder.add(Status::skip, name, "skipped: memory");
  constexpr int kSteps = 56, kWarmUp = 8;
  SpeedModel m(shape.name, format, context, 8);
  m.fillCache(context - kSteps - kWarmUp);
  const double first = m.step();  // captures the graph
  for (int i = 1; i < kWarmUp; ++i) m.step();
  std::vector<double> times;
  double bytes = 0;
  for (int i = 0; i < kSteps; ++i) {
    times.push_back(m.step());
    bytes += static_cast<double>(m.weightBytes() + m.kvBytes()) / kSteps;
  }
  const double ms = medianOf(times);
  recorder.add(Status::measured, name, "", {{"ms", ms}, {"tokens_per_second", 1000 / ms}, {"gb_s", bytes / ms * 1e-6}, {"share", bytes / ms * 1e-6 / gbs},
                                            {"first_step_ms", first}});
}

// The model's own products, each as one call of cuBLASLt; q, k, v and gate, up read one input.
double vendorMilliseconds(const ModelConfig& c, int tokens, cuda::GemmType type, std::string* why) {
  cuda::OwnStream stream;
  double ms = 0;
  const cuda::GemmShape products[] = {{c.qRows() + 2 * c.kvRows(), tokens, c.hidden}, {c.hidden, tokens, c.qRows()}, {2 * c.ffn, tokens, c.hidden}, {c.hidden, tokens, c.ffn}};
  for (const cuda::GemmShape& product : products) {
    const auto time = cuda::measureGemm(stream.get(), product, type, why);
    if (!time) return 0;
    ms += time->milliseconds * c.layers;
  }
  return ms;
}

struct Prompt {
  std::string format;
  int tokens, depth = 0;  // behind so many tokens
  PrefillTwin twin = PrefillTwin::off;
  bool fp8 = false;
  std::string name(const Shape& shape) const {
    return labelOf("prefill", shape.name, format, tokens) + (depth > 0 ? " behind " + std::to_string(depth) : "") + (twin == PrefillTwin::on ? " twin" : "") + (fp8 ? " fp8" : "");
  }
};
// cuBLASLt's summed times of the model's products, in this run; 0: not measured, and why.
struct Vendor {
  double bf16 = 0, fp8 = 0;
  std::string why = "not measured", whyNoFp8 = "not measured";
};

// Packed weights are decoded by slices for every prompt, or once to twins. What attention takes is in the time and not in the library's.
// Median milliseconds, 0 where it was skipped. `sixteen`: those of the same prompt in 16 bits.
double prefillCase(Recorder& recorder, const Shape& shape, const Prompt& prompt, const Vendor& vendor, double sixteen) {
  const int tokens = prompt.tokens;
  const bool twins = prompt.twin == PrefillTwin::on;
  const std::string name = prompt.name(shape);
  if (!fits(shape.billions, prompt.format, 1 + shape.kvGibPer32k * prompt.depth / 32768 + (twins ? 2 * shape.billions : 0))) return recorder.add(Status::skip, name, "skipped: memory"), 0;
  SpeedModel m(shape.name, prompt.format, prompt.depth + tokens + 64, tokens, prompt.twin);
  if (prompt.fp8) {
    if (const auto why = m.device->refuses("compute.activations", std::string("fp8"))) return recorder.add(Status::skip, name, "skipped: " + *why), 0;
    m.activations = Activations::fp8;
  }
  double once = m.prefill(tokens, prompt.depth);  // warms up
  std::vector<double> times;
  for (int i = 0; i < 5 && recorder.secondsLeft() > 2 * once / 1000; ++i) times.push_back(once = m.prefill(tokens, prompt.depth));
  if (times.empty()) times.push_back(once);
  const double ms = medianOf(times);
  Figures figures = {{"ms", ms}, {"tokens_per_second", 1000 * tokens / ms}};
  if (twins) figures.emplace_back("twins_mib", static_cast<double>(m.backend->memory()[static_cast<size_t>(MemoryTag::prefillTwin)]) / (1 << 20));
  const double products = prompt.fp8 ? vendor.fp8 : vendor.bf16;
  if (products > 0) figures.insert(figures.end(), {{"vendor_gemm_ms", products}, {"share", products / ms}});
  if (sixteen > 0) figures.emplace_back("times_16_bit_speed", sixteen / ms);
  const std::string type = prompt.fp8 ? "E4M3" : "bf16";
  recorder.add(Status::measured, name, products > 0 ? "share of the summed " + type + " cuBLASLt times" : "no share: " + (prompt.fp8 ? vendor.whyNoFp8 : vendor.why), figures);
  return ms;
}

std::vector<std::string> formatsOf(const Recorder& recorder) {
  return recorder.quick() ? std::vector<std::string>{"bf16", "q4"} : std::vector<std::string>{"bf16", "q8", "q4", "nf4"};
}

}  // namespace

void runRoofline(Recorder& recorder) {
  for (int i = 0; i < (recorder.quick() ? 1 : 3); ++i)
    recorder.run("read", 2, [&] { recorder.add(Status::measured, "read " + std::to_string(i + 1), "2 GiB, best of ten", {{"gb_s", readBandwidth()}}); });
  cuda::OwnStream stream;
  for (int tokens : {512, 2048, 8192})
    recorder.run("product " + std::to_string(tokens), 3, [&] {
      std::string why;
      const std::string shape = "product 8192 x " + std::to_string(tokens) + " x 8192";
      for (const auto& [type, typeName] : {std::pair(cuda::GemmType::bf16, "bf16"), std::pair(cuda::GemmType::e4m3, "E4M3")}) {
        const auto time = cuda::measureGemm(stream.get(), {8192, tokens, 8192}, type, &why);
        const std::string name = shape + (type == cuda::GemmType::e4m3 ? " fp8" : "");
        if (time) recorder.add(Status::measured, name, std::string("cuBLASLt, ") + typeName, {{"tflop_s", time->teraflops()}, {"ms", time->milliseconds}});
        else recorder.add(Status::skip, name, why);
      }
    });
}

void runDecode(Recorder& recorder) {
  const double gbs = readBandwidth();
  recorder.add(Status::measured, "read", "before", {{"gb_s", gbs}});
  for (const Shape& shape : kShapes)
    for (int context : recorder.quick() ? std::vector<int>{512} : std::vector<int>{512, 8192, 32768})
      for (const std::string& format : formatsOf(recorder))
        recorder.run(labelOf("decode", shape.name, format, context), 3 + context / 8192, [&] { decodeCase(recorder, shape, format, context, gbs); });
  recorder.run("read", 1, [&] { recorder.add(Status::measured, "read", "after", {{"gb_s", readBandwidth()}}); });
}

void runPrefill(Recorder& recorder) {
  for (const Shape& shape : kShapes)
    for (int tokens : recorder.quick() ? std::vector<int>{2048} : std::vector<int>{512, 2048, 4096}) {
      Vendor vendor;
      const ModelConfig& config = test::named(shape.name).config;
      recorder.run("vendor", 2, [&] { vendor.bf16 = vendorMilliseconds(config, tokens, cuda::GemmType::bf16, &vendor.why); });
      recorder.run("vendor fp8", 2, [&] { vendor.fp8 = vendorMilliseconds(config, tokens, cuda::GemmType::e4m3, &vendor.whyNoFp8); });
      std::vector<Prompt> prompts;
      for (const std::string& format : formatsOf(recorder)) {
        prompts.push_back({format, tokens});
        if (format != "bf16") prompts.push_back({format, tokens, 0, PrefillTwin::on});
        prompts.push_back({format, tokens, 0, PrefillTwin::on, true});  // behind the one in 16 bits that it is compared with
      }
      if (tokens == 2048 && !recorder.quick())
        for (const int depth : {8192, 32768}) prompts.push_back({"bf16", tokens, depth});
      double before = 0;
      for (const Prompt& prompt : prompts)
        recorder.run(prompt.name(shape), 6, [&] { before = prefillCase(recorder, shape, prompt, vendor, prompt.fp8 ? before : 0); });
    }
}

// Kernels alone: the 1B model's matrices from a resident bf16 master to a packed set, then the first token with it.
void runKnobs(Recorder& recorder) {
  for (const std::string format : {"q4", "q8"})
    recorder.run("requantize 1b " + format, 4, [&] {
      SpeedModel m("1b", "bf16", 1024, 8);
      m.fillCache(256);
      for (int i = 0; i < 4; ++i) m.step();
      const auto master = m.weights;
      const auto target = m.build(format);  // memory is there; its values are made below
      std::vector<double> convert, token;
      for (int round = 0; round < 5; ++round) {
        m.useWeights(master);
        m.step();
        const auto start = std::chrono::steady_clock::now();
        for (size_t i = 0; i < target->versions.size(); ++i) {
          const Matrix &from = master->versions[i]->matrix, &to = target->versions[i]->matrix;
          if (to.format.storage != Storage::packed) continue;
          cuda::quantizeRtn(m.stream.get(), from.data, from.format.storage, 0, from.rows, {to.format, to.rows, to.cols, to.data, to.scales, to.mins});
        }
        cuda::wait(m.stream.get());
        convert.push_back(millisecondsSince(start));
        m.useWeights(target);
        m.step();  // with a new graph
        token.push_back(millisecondsSince(start));
      }
      recorder.add(Status::measured, "requantize 1b " + format, "resident bf16 master, kernels and the first token", {{"convert_ms", medianOf(convert)}, {"first_token_ms", medianOf(token)}});
    });
  recorder.run("capture", 4, [&] {
    SpeedModel m("8b", "q4", 1024, 8);
    m.fillCache(256);
    const auto a = m.weights, b = m.build("q8");
    std::vector<double> captured, replayed;
    for (int round = 0; round < 6; ++round) {
      m.useWeights(round % 2 ? a : b);
      captured.push_back(m.step());
      for (int i = 0; i < 3; ++i) replayed.push_back(m.step());
    }
    recorder.add(Status::measured, "capture 8b", "a step that captures its graph, and one that replays it", {{"captured_ms", medianOf(captured)}, {"replayed_ms", medianOf(replayed)}, {"capture_ms", medianOf(captured) - medianOf(replayed)}});
  });
}

void runObservation(Recorder& recorder) {
  const std::pair<const char*, const char*> cases[] = {{"1b", "bf16"}, {"8b", "q4"}, {"8b", "bf16"}};
  for (const auto& [shape, format] : cases)
    recorder.run(labelOf("ops", shape, format, 512), 4, [&, shapeName = std::string(shape), formatName = std::string(format)] {
      if (!fits(shapeName == "8b" ? 8.1 : 1.3, formatName, 1)) return recorder.add(Status::skip, labelOf("ops", shapeName, formatName, 512), "skipped: memory");
      SpeedModel m(shapeName, formatName, 512, 8);
      m.fillCache(256);
      std::vector<OpTime> times;
      std::vector<double> off, on;
      for (int round = 0; round < 8; ++round) {  // interleaved; the first step of a block captures
        m.step();
        for (int i = 0; i < 8; ++i) off.push_back(m.step());
        m.step(&times);
        for (int i = 0; i < 8; ++i) on.push_back(m.step(&times));
      }
      std::map<OpKind, std::pair<double, double>> kinds;  // ns, bytes
      double sum = 0;
      for (const OpTime& t : times) {
        auto& [ns, bytes] = kinds[m.plan.ops[static_cast<size_t>(t.op)].kind];
        ns += static_cast<double>(t.ns), bytes += static_cast<double>(t.bytes), sum += static_cast<double>(t.ns);
      }
      recorder.add(Status::measured, labelOf("ops", shapeName, formatName, 512), "per-op events on against off",
                   {{"off_ms", medianOf(off)}, {"on_ms", medianOf(on)}, {"overhead", medianOf(on) / medianOf(off) - 1}, {"sum_of_ops_ms", sum * 1e-6}});
      for (const auto& [kind, cost] : kinds)
        recorder.add(Status::measured, "  " + std::string(opKindName(kind)) + " " + shapeName + " " + formatName, "", {{"ms", cost.first * 1e-6}, {"gb_s", cost.first > 0 ? cost.second / cost.first : 0}});
    });
}

}  // namespace winnow::device_run
