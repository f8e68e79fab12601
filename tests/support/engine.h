// SPDX-License-Identifier: GPL-3.0-or-later
// Short ways to engines and sessions on the shared models.
#pragma once
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/check.h"

namespace winnow::test {

constexpr const char* kStories = "models/stories260K-f32.gguf";
constexpr const char* kChat = "models/tinystories-instruct-3m-chat-f32.gguf";
constexpr const char* kRandom = "models/random-llama-256-f32.gguf";

template <class T>
T value(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}
inline void ok(const Status& status) {
  if (!status) throw std::runtime_error(status.error().message);
}

// A model file or folder, on the CPU.
inline std::shared_ptr<Engine> openModel(const std::string& path, int threads = 1, std::optional<cpu::Isa> isa = std::nullopt) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  options.isa = isa;
  return value(Engine::create(value(Model::open(path)), options));
}
// One of the shared models.
inline std::shared_ptr<Engine> openEngine(const std::string& relative, int threads = 2, std::optional<cpu::Isa> isa = std::nullopt) {
  return openModel(sharedData(relative), threads, isa);
}

using Settings = std::vector<std::pair<const char*, const char*>>;
inline Config configure(const Settings& settings, Config config = Config()) {
  for (const auto& [name, text] : settings) config = value(config.parsed(name, text));
  return config;
}

inline std::unique_ptr<Session> makeSession(const std::shared_ptr<Engine>& engine, const Config& config = Config(), SessionOptions options = {}) {
  if (options.context == 0) options.context = 256;
  return value(engine->createSession(config, options, {}));
}

inline int32_t best(std::span<const float> logits) { return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()); }

// Some tokens of a vocabulary, always the same ones.
inline std::vector<int32_t> someTokens(int count, int vocab, uint32_t seed = 7) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    ids.push_back(static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocab)));
  }
  return ids;
}

inline std::vector<float> logitsAfter(Session& session, std::span<const int32_t> tokens) {
  session.reset();
  ok(session.prefill(tokens, {}));
  return {session.logits().begin(), session.logits().end()};
}

// Greedy decoding; returns the tokens it chose.
inline std::vector<int32_t> generate(Session& session, int count) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) {
    ids.push_back(best(session.logits()));
    ok(session.step(ids.back()));
  }
  return ids;
}

// max |a - b| over max |a|
inline double relativeError(std::span<const float> a, std::span<const float> b) {
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::fabs(double{a[i]} - b[i]));
    largest = std::max(largest, std::fabs(double{a[i]}));
  }
  return difference / largest;
}

inline int64_t bytes(const MemoryByTag& memory, MemoryTag tag) { return memory[static_cast<size_t>(tag)]; }

}  // namespace winnow::test
