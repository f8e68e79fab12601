// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/huggingface_write.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "engine/model/huggingface.h"
#include "engine/model/mapped_file.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

namespace fs = std::filesystem;

std::string typeName(DType type, bool torch) {
  if (type == DType::f16) return torch ? "float16" : "F16";
  if (type == DType::bf16) return torch ? "bfloat16" : "BF16";
  return torch ? "float32" : "F32";
}

Error cannotSay(const std::string& path, const std::string& what) {
  return problem(ErrorCode::badInput, sentence(path, ": ", what, ", which config.json can't say"), "Export as GGUF: --out NAME.gguf.");
}

// A factor for each frequency, as GGUF files have them, said as the scaling of Llama 3 they were made by. What published models share is taken for granted:
// low_freq_factor 1, high_freq_factor 4, and an original context that is a power of two.
std::optional<RopeConfig> asLlama3(const RopeConfig& rope) {
  const std::vector<float> expected = ropeFrequencies(rope);
  RopeConfig made = rope;
  made.frequencyFactors.clear();
  made.scaling = RopeScaling::llama3;
  made.factor = *std::ranges::max_element(rope.frequencyFactors);
  made.lowFreqFactor = 1;
  made.highFreqFactor = 4;
  for (made.originalContext = 256; made.originalContext <= 1 << 17; made.originalContext *= 2) {
    const std::vector<float> found = ropeFrequencies(made);
    if (std::ranges::equal(expected, found, [](float a, float b) { return std::fabs(a - b) <= 1e-6f * a; })) return made;
  }
  return std::nullopt;
}

Status addRope(const Model& model, Json& json, std::vector<std::string>& notes) {
  const ModelConfig& c = model.config();
  RopeConfig rope = c.rope;
  if (!rope.frequencyFactors.empty()) {
    const auto known = asLlama3(rope);
    if (!known) return cannotSay(model.path(), "RoPE has a factor for each frequency that is not that of Llama 3");
    rope = *known;
    notes.push_back(sentence("RoPE's factors of the file are said as the scaling of Llama 3 with factor ", rope.factor, ", from which they differ by less than 1e-6."));
  }
  json["rope_theta"] = rope.base;
  if (rope.dims != c.headDim) json["partial_rotary_factor"] = static_cast<double>(rope.dims) / c.headDim;
  if (rope.scaling == RopeScaling::linear) json["rope_scaling"] = {{"rope_type", "linear"}, {"type", "linear"}, {"factor", rope.factor}};
  if (rope.scaling == RopeScaling::llama3)
    json["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", rope.factor}, {"low_freq_factor", rope.lowFreqFactor}, {"high_freq_factor", rope.highFreqFactor},
                            {"original_max_position_embeddings", rope.originalContext}};
  return Done{};
}

std::string activationName(const ModelConfig& c) {
  return c.activation == Activation::silu ? "silu" : c.activation == Activation::geluErf ? "gelu" : c.architecture == "gpt2" ? "gelu_new" : "gelu_pytorch_tanh";
}

Result<Json> llamaLike(const Model& model, std::vector<std::string>& notes) {
  const ModelConfig& c = model.config();
  const bool mistral = c.architecture == "llama" && c.slidingWindow > 0;
  const std::string type = mistral ? "mistral" : c.architecture;
  const std::string className = type == "mistral" ? "MistralForCausalLM" : type == "qwen2" ? "Qwen2ForCausalLM" : type == "qwen3" ? "Qwen3ForCausalLM" : "LlamaForCausalLM";
  Json json = {{"model_type", type}, {"architectures", {className}}, {"num_hidden_layers", c.layers}, {"hidden_size", c.hidden}, {"num_attention_heads", c.heads},
               {"num_key_value_heads", c.kvHeads}, {"head_dim", c.headDim}, {"intermediate_size", c.ffn}, {"max_position_embeddings", c.context},
               {"rms_norm_eps", c.normEps}, {"hidden_act", activationName(c)}};
  const auto any = [&](TensorRole role) { return model.find(role, 0) != nullptr; };
  const bool qkv = any(TensorRole::qBias) || any(TensorRole::kBias) || any(TensorRole::vBias), o = any(TensorRole::oBias);
  const bool ffn = any(TensorRole::gateBias) || any(TensorRole::upBias) || any(TensorRole::downBias);
  if (type == "llama") json["attention_bias"] = qkv || o, json["mlp_bias"] = ffn;
  if (type == "qwen3") json["attention_bias"] = qkv || o;
  const bool known = type == "qwen2" ? qkv && !o && !ffn : type == "mistral" ? !qkv && !o && !ffn : qkv == o && (type == "llama" || !ffn);
  if (!known) notes.push_back("The biases of this model are not those of " + className + ": other programs will not know them.");
  if (c.slidingWindow > 0) json["sliding_window"] = c.slidingWindow;
  if (c.slidingWindow > 0 && !mistral) json["use_sliding_window"] = true, json["max_window_layers"] = 0;
  if (Status s = addRope(model, json, notes); !s) return s.error();
  return json;
}

Json gpt2(const ModelConfig& c) {
  return {{"model_type", "gpt2"}, {"architectures", {"GPT2LMHeadModel"}}, {"n_layer", c.layers}, {"n_embd", c.hidden}, {"n_head", c.heads}, {"n_inner", c.ffn},
          {"n_positions", c.context}, {"n_ctx", c.context}, {"layer_norm_epsilon", c.normEps}, {"activation_function", activationName(c)}};
}

Result<Json> configOf(const Model& model, std::vector<std::string>& notes) {
  const ModelConfig& c = model.config();
  Result<Json> made = c.architecture == "gpt2" ? Result<Json>(gpt2(c)) : llamaLike(model, notes);
  if (!made) return made;
  Json& json = *made;
  json["vocab_size"] = c.vocab;
  json["tie_word_embeddings"] = c.tiedHead;
  if (!c.name.empty()) json["_name_or_path"] = c.name;
  if (model.vocab().bos >= 0) json["bos_token_id"] = model.vocab().bos;
  if (model.vocab().eos >= 0) json["eos_token_id"] = model.vocab().eos;
  return made;
}

std::string folderOf(const Model& model) {
  std::error_code error;
  const fs::path path(model.path());
  return fs::is_directory(path, error) ? path.string() : path.has_parent_path() ? path.parent_path().string() : ".";
}

// The tokenizer of a folder, byte for byte.
Status copyTokenizer(const std::string& folder, std::vector<NamedText>& files) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json", "vocab.json", "merges.txt",
                           "tokenizer.model", "chat_template.jinja"}) {
    if (!fileExists(folder + "/" + name)) continue;
    const auto map = MappedFile::open(folder + "/" + name);
    if (!map) return map.error();
    const auto bytes = (*map)->bytes();
    files.push_back({name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}});
  }
  return Done{};
}

}  // namespace

int64_t SafetensorsEntry::bytes() const {
  int64_t count = dtypeTraits(type).blockBytes;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::string safetensorsHeader(std::span<const SafetensorsEntry> entries, const std::string& settings) {
  Json json = {{"__metadata__", {{"format", "pt"}, {"winnow.settings", settings}}}};
  int64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    json[entry.name] = {{"dtype", typeName(entry.type, false)}, {"shape", entry.shape}, {"data_offsets", {at, at + entry.bytes()}}};
    at += entry.bytes();
  }
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begin at a multiple of 8 bytes
  std::string out(sizeof(uint64_t), '\0');
  const uint64_t length = text.size();
  std::memcpy(out.data(), &length, sizeof length);
  return out + text;
}

Result<std::vector<NamedText>> huggingFaceFiles(const Model& model, const ModelConfig& shape, DType type, std::vector<std::string>& notes) {
  std::vector<NamedText> files;
  Result<Json> config = Json::object();
  if (model.format() == "safetensors") {
    config = readJson(folderOf(model) + "/config.json", 16 << 20);
    if (!config) return config.error();
    if (Status s = copyTokenizer(folderOf(model), files); !s) return s.error();
  } else {
    config = configOf(model, notes);
    if (!config) return config.error();
    if (model.vocab().kind == VocabData::Kind::none) {
      notes.push_back("The model has no tokenizer that is known here, and none is written: it can be fed token ids only.");
    } else {
      auto tokenizer = huggingFaceTokenizer(model.vocab(), model.path());
      if (!tokenizer) return tokenizer.error();
      files = std::move(*tokenizer);
    }
  }
  const ModelConfig& whole = model.config();
  if (shape.ffn != whole.ffn) (*config)[whole.architecture == "gpt2" ? "n_inner" : "intermediate_size"] = shape.ffn;
  if (shape.heads != whole.heads) (*config)["num_attention_heads"] = shape.heads, (*config)["num_key_value_heads"] = shape.kvHeads, (*config)["head_dim"] = shape.headDim;
  for (const char* key : {"torch_dtype", "dtype"})  // older and newer versions of the library
    if (config->contains(key) || std::strcmp(key, "torch_dtype") == 0) (*config)[key] = typeName(type, true);
  files.insert(files.begin(), {"config.json", config->dump(2, ' ', false, Json::error_handler_t::replace) + "\n"});
  return files;
}

}  // namespace winnow
