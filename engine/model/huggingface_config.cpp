// SPDX-License-Identifier: GPL-3.0-or-later
// config.json of Llama, Mistral, Qwen2, Qwen3 and GPT-2.
#include <array>

#include "engine/model/huggingface.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

struct Family {
  std::string_view type, className, architecture;
};
constexpr std::array<Family, 5> kFamilies = {{{"llama", "LlamaForCausalLM", "llama"},
                                              {"mistral", "MistralForCausalLM", "llama"},
                                              {"qwen2", "Qwen2ForCausalLM", "qwen2"},
                                              {"qwen3", "Qwen3ForCausalLM", "qwen3"},
                                              {"gpt2", "GPT2LMHeadModel", "gpt2"}}};

Result<std::string> architectureOf(JsonKeys& keys, const std::string& path) {
  const std::string type = keys.text("model_type", "");
  std::string className;
  if (const Json* list = keys.find("architectures"); list && list->is_array() && !list->empty() && (*list)[0].is_string())
    className = (*list)[0].get<std::string>();
  if (keys.error()) return *keys.error();
  if (type.empty() && className.empty()) return badInput(path, ": neither model_type nor architectures says what this model is");
  for (const Family& f : kFamilies) {
    if (className.empty() ? f.type == type : f.className == className) return std::string(f.architecture);
    if (f.type == type && (className == "GPT2Model" || className == "LlamaModel" || className == "MistralModel" ||
                           className == "Qwen2Model" || className == "Qwen3Model"))
      return std::string(f.architecture);
  }
  return badInput(path, ": the architecture ", shown(className.empty() ? type : className),
                  " is not supported; LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM and GPT2LMHeadModel are");
}

Status readActivation(const std::string& name, const std::string& path, ModelConfig& c) {
  if (name == "silu" || name == "swish") c.activation = Activation::silu;
  else if (name == "gelu") c.activation = Activation::geluErf;
  else if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") c.activation = Activation::geluTanh;
  else return badInput(path, ": the activation ", shown(name), " is not supported; silu, gelu, gelu_new and gelu_pytorch_tanh are");
  return Done{};
}

// rope_parameters (current) or rope_scaling beside rope_theta (older).
Status readRope(JsonKeys& keys, const std::string& path, ModelConfig& c) {
  c.rope.base = keys.number("rope_theta", 10000.0f);
  float part = keys.number("partial_rotary_factor", 1.0f);
  const char* name = keys.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* scaling = keys.find(name);
  if (scaling && !scaling->is_object()) return badInput(path, ": ", name, " should be an object, found ", scaling->type_name());
  if (scaling) {
    for (const auto& [key, value] : scaling->items())
      if (value.is_object()) return badInput(path, ": ", name, " differs between layers (", shown(key), "), which is not supported");
    JsonKeys inner(*scaling, path, std::string(name) + ".");
    c.rope.base = inner.number("rope_theta", c.rope.base);
    part = inner.number("partial_rotary_factor", part);
    const std::string kind = inner.text("rope_type", inner.text("type", "default"));
    if (kind == "linear") {
      c.rope.scaling = RopeScaling::linear;
      c.rope.factor = inner.number("factor");
    } else if (kind == "llama3") {
      c.rope.scaling = RopeScaling::llama3;
      c.rope.factor = inner.number("factor");
      c.rope.lowFreqFactor = inner.number("low_freq_factor", 1.0f);
      c.rope.highFreqFactor = inner.number("high_freq_factor", 4.0f);
      c.rope.originalContext = inner.integer("original_max_position_embeddings", c.context);
    } else if (kind != "default" && !inner.error()) {
      return badInput(path, ": the RoPE scaling ", shown(kind), " is not supported; default, linear and llama3 are");
    }
    if (inner.error()) return *inner.error();
    if (kind == "llama3" && !(c.rope.lowFreqFactor > 0 && c.rope.highFreqFactor > c.rope.lowFreqFactor && c.rope.originalContext > 0))
      return badInput(path, ": ", name, " should have 0 < low_freq_factor < high_freq_factor and a positive original context");
  }
  c.rope.dims = static_cast<int>(static_cast<float>(c.headDim) * std::min(std::max(part, 0.0f), 1.0f)) / 2 * 2;
  return Done{};
}

Status readWindow(JsonKeys& keys, const std::string& path, ModelConfig& c) {
  // Qwen2 and Qwen3 name a window and leave it off by default.
  if (!keys.boolean("use_sliding_window", c.architecture == "llama")) return Done{};
  const int window = keys.integer("sliding_window", 0);
  if (window <= 0) return Done{};
  if (const Json* types = keys.find("layer_types"); types && types->is_array()) {
    size_t sliding = 0;
    for (const Json& t : *types) sliding += t.is_string() && t.get_ref<const std::string&>() == "sliding_attention";
    if (sliding == 0) return Done{};
    if (sliding != types->size())
      return badInput(path, ": ", sliding, " of ", types->size(), " layers use a sliding window; all or none is supported");
  } else if (keys.integer("max_window_layers", 0) > 0 && c.architecture != "llama") {
    if (keys.integer("max_window_layers", 0) >= c.layers) return Done{};
    return badInput(path, ": only the layers from ", keys.integer("max_window_layers", 0),
                    " on use a sliding window; all or none is supported");
  }
  c.slidingWindow = window;
  return Done{};
}

Status readLlamaLike(JsonKeys& keys, const std::string& path, ModelConfig& c) {
  c.layers = keys.integer("num_hidden_layers");
  c.hidden = keys.integer("hidden_size");
  c.heads = keys.integer("num_attention_heads");
  c.kvHeads = keys.integer("num_key_value_heads", c.heads);
  c.ffn = keys.integer("intermediate_size");
  c.vocab = keys.integer("vocab_size");
  c.context = keys.integer("max_position_embeddings", 2048);
  c.normEps = keys.number("rms_norm_eps", 1e-6f);
  c.qkNorm = c.architecture == "qwen3";
  if (keys.error()) return *keys.error();
  if (c.heads < 1) return badInput(path, ": num_attention_heads is ", c.heads, ", at least 1 was expected");
  if (!keys.has("head_dim") && c.hidden % c.heads != 0)
    return badInput(path, ": hidden_size ", c.hidden, " cannot be divided by ", c.heads, " heads");
  c.headDim = keys.integer("head_dim", c.architecture == "qwen3" ? 128 : c.hidden / c.heads);
  if (Status s = readActivation(keys.text("hidden_act", "silu"), path, c); !s) return s;
  if (Status s = readRope(keys, path, c); !s) return s;
  return readWindow(keys, path, c);
}

Status readGpt2(JsonKeys& keys, const std::string& path, ModelConfig& c) {
  c.layers = keys.integer("n_layer");
  c.hidden = keys.integer("n_embd");
  c.heads = c.kvHeads = keys.integer("n_head");
  c.ffn = keys.integer("n_inner", 4 * std::min(c.hidden, 1 << 24));
  c.vocab = keys.integer("vocab_size");
  c.context = keys.integer("n_positions", keys.integer("n_ctx", 1024));
  c.norm = NormKind::layer;
  c.normEps = keys.number("layer_norm_epsilon", 1e-5f);
  c.gatedFfn = false;
  c.position = PositionKind::learned;
  if (keys.error()) return *keys.error();
  if (c.heads < 1 || c.hidden % c.heads != 0) return badInput(path, ": n_embd ", c.hidden, " cannot be divided by n_head ", c.heads);
  c.headDim = c.hidden / c.heads;
  if (!keys.boolean("scale_attn_weights", true) || keys.boolean("scale_attn_by_inverse_layer_idx", false))
    return badInput(path, ": unusual attention scaling (scale_attn_weights, scale_attn_by_inverse_layer_idx) is not supported");
  return readActivation(keys.text("activation_function", "gelu_new"), path, c);
}

}  // namespace

Status readHuggingFaceConfig(const std::string& path, ModelBuilder& builder) {
  const auto json = readJson(path, 16 << 20);
  if (!json) return json.error();
  ModelConfig& c = builder.config();
  JsonKeys keys(*json, path);
  const auto architecture = architectureOf(keys, path);
  if (!architecture) return architecture.error();
  c.architecture = *architecture;
  c.name = keys.text("_name_or_path", "");
  if (const Json* quantized = keys.find("quantization_config"))
    return badInput(path, ": this model is quantized (",
                    quantized->is_object() ? shown(quantized->value("quant_method", Json("unknown")).dump()) : "unknown",
                    "), folders with F32, F16 or BF16 weights can be read");
  const bool gpt2 = c.architecture == "gpt2";
  if (Status s = gpt2 ? readGpt2(keys, path, c) : readLlamaLike(keys, path, c); !s) return s;
  c.tiedHead = keys.boolean("tie_word_embeddings", gpt2);
  if (keys.error()) return *keys.error();
  return Done{};
}

}  // namespace winnow
