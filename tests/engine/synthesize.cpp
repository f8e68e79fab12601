// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/shapes.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "engine/model/model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::string file(const std::string& name) { return (test::scratch() / name).string(); }

std::shared_ptr<const Model> made(const NamedShape& shape, const char* type, const std::string& name, uint64_t seed = 1) {
  const Status s = synthesize(shape, type, seed, file(name), {});
  if (!s) throw std::runtime_error(s.error().message);
  auto m = Model::open(file(name));
  if (!m) throw std::runtime_error(m.error().message);
  return *m;
}

}  // namespace

TEST(parameters_are_those_of_the_models) {
  EXPECT_EQ(named("0.1b").config.parameters, int64_t{134515008});
  EXPECT_EQ(named("0.3b").config.parameters, int64_t{361821120});
  EXPECT_EQ(named("0.5b").config.parameters, int64_t{494032768});
  EXPECT_EQ(named("1b").config.parameters, int64_t{1235814400});
  EXPECT_EQ(named("3b").config.parameters, int64_t{3212749824});
  EXPECT_EQ(named("8b").config.parameters, int64_t{8030261248});
  EXPECT(named("starter").config.parameters > 14'000'000 && named("starter").config.parameters < 18'000'000,
         named("starter").config.parameters);
}

TEST(every_type_and_family_opens) {
  for (const char* like : {"starter", "0.5b", "1b"})
    for (const char* type : {"f32", "f16", "bf16", "q8_0", "q4_0"}) {
      const NamedShape s = tinyShape(like);
      const auto m = made(s, type, "m.gguf");
      EXPECT_EQ(m->config().layers, s.config.layers);
      EXPECT_EQ(m->config().vocab, s.config.vocab);
      EXPECT_EQ(m->config().tiedHead, s.config.tiedHead);
      EXPECT(m->notes().empty(), like, type, m->notes().empty() ? "" : m->notes()[0]);
      EXPECT(m->validateValues().ok());
      EXPECT_EQ(m->typeSummary(), std::string(type) == "f32" ? "f32" : std::string(type) + " + f32");
      EXPECT_EQ(m->vocab().tokens.size(), size_t{512});
      EXPECT_EQ(m->vocab().pre, "gpt-2");
      EXPECT_EQ(m->vocab().eos, 256);
    }
}

TEST(llama3_frequencies_survive) {
  const auto m = made(tinyShape("1b"), "f32", "rope.gguf");
  EXPECT_EQ(m->config().rope.frequencyFactors.size(), size_t{8});
  const auto read = ropeFrequencies(m->config().rope), meant = ropeFrequencies(tinyShape("1b").config.rope);
  for (size_t i = 0; i < meant.size(); ++i) EXPECT_NEAR(read[i] / meant[i], 1.0, 1e-6);
  EXPECT(meant.back() < 0.05f * ropeFrequencies({.dims = 16, .base = 500000.0f}).back());  // scaling does something
}

TEST(values_are_normal_and_follow_the_seed) {
  const auto a = made(tinyShape("starter"), "f32", "a.gguf", 7), b = made(tinyShape("starter"), "f32", "b.gguf", 7),
             c = made(tinyShape("starter"), "f32", "c.gguf", 8);
  EXPECT(test::readFile(a->path()) == test::readFile(b->path()));
  EXPECT(test::readFile(a->path()) != test::readFile(c->path()));
  const MasterTensor* t = a->find(TensorRole::tokenEmbedding);
  std::vector<float> x(static_cast<size_t>(t->rows * t->cols));
  Model::decodeRows(*t, 0, t->rows, x.data());
  double sum = 0, squares = 0, fourth = 0;
  for (const float v : x) {
    const double scaled = v * std::sqrt(64.0);
    sum += scaled, squares += scaled * scaled, fourth += scaled * scaled * scaled * scaled;
  }
  const double n = static_cast<double>(x.size());
  EXPECT_NEAR(sum / n, 0.0, 0.03);
  EXPECT_NEAR(squares / n, 1.0, 0.03);
  EXPECT_NEAR(fourth / n, 3.0, 0.2);
}

TEST(quantized_values_are_near) {
  const auto exact = made(tinyShape("starter"), "f32", "e.gguf");
  const std::pair<const char*, double> bounds[] = {{"f16", 5e-4}, {"bf16", 4e-3}, {"q8_0", 0.01}, {"q4_0", 0.12}};
  for (const auto& [type, bound] : bounds) {
    const auto m = made(tinyShape("starter"), type, "q.gguf");
    double error = 0, power = 0;
    for (size_t i = 0; i < m->tensors().size(); ++i) {
      const MasterTensor &t = m->tensors()[i], &r = exact->tensors()[i];
      if (!isMatrix(t.role)) continue;
      std::vector<float> x(static_cast<size_t>(t.rows * t.cols)), y(x.size());
      Model::decodeRows(t, 0, t.rows, x.data());
      Model::decodeRows(r, 0, r.rows, y.data());
      for (size_t j = 0; j < x.size(); ++j) error += std::pow(x[j] - y[j], 2), power += std::pow(y[j], 2);
    }
    EXPECT(std::sqrt(error / power) < bound && error > 0, type, std::sqrt(error / power));
  }
}

TEST(refusals) {
  const Status type = synthesize(tinyShape("starter"), "q3_k", 1, file("x.gguf"), {});
  EXPECT(!type.ok() && type.error().code == ErrorCode::usage && type.error().message.find("q3_k") != std::string::npos);
  const Status folder = synthesize(tinyShape("starter"), "f32", 1, file("no/such/folder/x.gguf"), {});
  EXPECT(!folder.ok() && folder.error().message.find("folder does not exist") != std::string::npos);
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  progress.report = [&](double fraction, std::string_view) { if (fraction > 0.3) stop.request_stop(); };
  const Status stopped = synthesize(tinyShape("starter"), "f32", 1, file("stopped.gguf"), progress);
  EXPECT(!stopped.ok() && stopped.error().code == ErrorCode::cancelled);
  const Status full = synthesize(tinyShape("starter"), "f32", 1, "/dev/full/x.gguf", {});
  EXPECT(!full.ok());
  NamedShape huge = tinyShape("starter");
  huge.config.layers = 4000;
  huge.config.hidden = 32768;
  huge.config.ffn = 1 << 20;
  const Status room = synthesize(huge, "f32", 1, file("huge.gguf"), {});
  EXPECT(!room.ok() && room.error().message.find("the disk has room for") != std::string::npos, room.ok() ? "" : room.error().message);
  for (const auto& entry : std::filesystem::directory_iterator(test::scratch()))
    EXPECT(entry.path().string().find("partial") == std::string::npos && entry.path().filename() != "stopped.gguf" &&
               entry.path().filename() != "huge.gguf",
           entry.path());
}
