// SPDX-License-Identifier: GPL-3.0-or-later
// Which files of a folder make the model, and what its tensors are called.
#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "engine/model/huggingface.h"
#include "engine/model/huggingface_write.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

namespace fs = std::filesystem;

std::string llamaName(const std::string&, TensorRole role, int layer) {
  constexpr std::array<std::string_view, static_cast<size_t>(TensorRole::count)> names = {
      "model.embed_tokens.weight", "", "model.norm.weight", "", "lm_head.weight",
      "input_layernorm.weight", "",
      "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
      "self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias", "self_attn.o_proj.bias",
      "self_attn.q_norm.weight", "self_attn.k_norm.weight",
      "post_attention_layernorm.weight", "", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
      "mlp.gate_proj.bias", "mlp.up_proj.bias", "mlp.down_proj.bias"};
  const std::string name(names[static_cast<size_t>(role)]);
  return layer < 0 ? name : "model.layers." + std::to_string(layer) + "." + name;
}
std::string gpt2Name(const std::string&, TensorRole role, int layer) {
  constexpr std::array<std::string_view, static_cast<size_t>(TensorRole::count)> names = {
      "wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias", "lm_head.weight",
      "ln_1.weight", "ln_1.bias", "", "", "", "attn.c_proj.weight", "", "", "", "attn.c_proj.bias", "", "",
      "ln_2.weight", "ln_2.bias", "", "mlp.c_fc.weight", "mlp.c_proj.weight", "", "mlp.c_fc.bias", "mlp.c_proj.bias"};
  const std::string name(names[static_cast<size_t>(role)]);
  return layer < 0 ? name : "h." + std::to_string(layer) + "." + name;
}
std::string gpt2FusedQkv(int layer, bool bias) {
  return "h." + std::to_string(layer) + (bias ? ".attn.c_attn.bias" : ".attn.c_attn.weight");
}

// Names as older and newer versions write them become one; buffers that are no weights are dropped.
void tidyNames(ModelBuilder& builder) {
  const auto ends = [](const std::string& name, std::string_view end) { return name.ends_with(end); };
  std::vector<SourceTensor> tidy;
  for (SourceTensor& t : builder.sources) {
    if (ends(t.name, ".attn.masked_bias") || ends(t.name, "rotary_emb.inv_freq")) continue;
    if (builder.config().architecture == "gpt2") {
      if (ends(t.name, ".attn.bias")) continue;  // the causal mask
      if (t.name.starts_with("transformer.")) t.name.erase(0, 12);
    } else if (!t.name.starts_with("model.") && t.name != "lm_head.weight") {
      t.name = "model." + t.name;
    }
    tidy.push_back(std::move(t));
  }
  builder.setSources(std::move(tidy));
}

struct Found {
  std::string folder;
  std::vector<std::string> weights;  // full paths
};

Result<std::set<std::string>> shardsOf(const std::string& index) {
  const auto json = readJson(index, 64 << 20);
  if (!json) return json.error();
  const auto map = json->find("weight_map");
  if (map == json->end() || !map->is_object() || map->empty())
    return badInput(index, ": weight_map should be an object that names the file of each tensor");
  std::set<std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos || name == ".." || name.find('\0') != std::string::npos)
      return badInput(index, ": the file of tensor ", shown(tensor), " should be a name in this folder, found ",
                      shown(file.dump(-1, ' ', false, Json::error_handler_t::replace)));
    files.insert(name);
    if (files.size() > 4096) return badInput(index, ": weight_map names more than 4096 files");
  }
  return files;
}

Result<Found> findFiles(const std::string& path) {
  Found out;
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  out.folder = folder ? path : fs::path(path).has_parent_path() ? fs::path(path).parent_path().string() : ".";
  const std::string index = out.folder + "/model.safetensors.index.json", single = out.folder + "/model.safetensors";
  if (!folder && !fileExists(path)) return badInput(path, ": there is no such file");
  if (fileExists(index)) {
    const auto shards = shardsOf(index);
    if (!shards) return shards.error();
    if (folder || shards->count(fs::path(path).filename().string())) {
      for (const std::string& shard : *shards) {
        out.weights.push_back(out.folder + "/" + shard);
        if (!fileExists(out.weights.back()))
          return badInput(path, ": the part ", shown(shard), " that model.safetensors.index.json names is missing");
      }
      return out;
    }
  }
  if (!folder) {
    out.weights.push_back(path);
    return out;
  }
  if (fileExists(single)) {
    out.weights.push_back(single);
    return out;
  }
  bool gguf = false;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") out.weights.push_back(it->path().string());
    gguf |= it->path().extension() == ".gguf";
  }
  if (out.weights.size() == 1) return out;
  if (out.weights.empty()) {
    const bool torch = fileExists(path + "/pytorch_model.bin") || fileExists(path + "/pytorch_model.bin.index.json");
    Error e = badInput(path, ": this folder holds no .safetensors file", torch ? "; PyTorch .bin files are not read" : "");
    if (gguf) e.hint = "Open the .gguf file in it instead of the folder.";
    return e;
  }
  return badInput(path, ": this folder holds ", out.weights.size(),
                  " .safetensors files and no model.safetensors.index.json that says how they belong together");
}

}  // namespace

HuggingFacePlace huggingFacePlace(const ModelConfig& config, TensorRole role, int layer) {
  const bool gpt2 = config.architecture == "gpt2", transposed = gpt2 && layer >= 0 && isMatrix(role);
  if (!gpt2) return {llamaName(config.architecture, role, layer), false};
  const bool bias = role == TensorRole::qBias || role == TensorRole::kBias || role == TensorRole::vBias;
  const bool fused = bias || role == TensorRole::q || role == TensorRole::k || role == TensorRole::v;
  return {fused ? gpt2FusedQkv(layer, bias) : gpt2Name(config.architecture, role, layer), transposed};
}

Result<std::shared_ptr<const Model>> openHuggingFace(const std::string& path) {
  const auto found = findFiles(path);
  if (!found) return found.error();
  ModelBuilder builder(path, "safetensors");
  builder.supportedTypes = "F32, F16, BF16";
  const std::string config = found->folder + "/config.json";
  if (!fileExists(config)) return badInput(path, ": config.json is missing beside the weights");
  if (Status s = readHuggingFaceConfig(config, builder); !s) return s.error();
  for (const std::string& file : found->weights)
    if (Status s = addSafetensors(builder, file); !s) return s.error();
  tidyNames(builder);
  const bool gpt2 = builder.config().architecture == "gpt2", tied = builder.config().tiedHead;
  if (tied) builder.dropSource("lm_head.weight");  // a second name of the embedding
  if (!tied && !builder.source("lm_head.weight"))
    return badInput(path, ": the tensor 'lm_head.weight' is missing and config.json does not say tie_word_embeddings");
  auto vocab = readHuggingFaceVocab(found->folder);
  if (!vocab) return vocab.error();
  if (!vocab->unsupported.empty()) builder.notes().push_back(vocab->unsupported + ": this model can be fed token ids only");
  builder.notes().insert(builder.notes().end(), vocab->notes.begin(), vocab->notes.end());
  const int64_t tokens = static_cast<int64_t>(vocab->data.tokens.size());
  builder.vocab() = std::move(vocab->data);
  if (tokens > builder.config().vocab)
    return badInput(path, ": the tokenizer has ", tokens, " tokens, but config.json says vocab_size ", builder.config().vocab);
  TensorNaming naming;
  naming.name = gpt2 ? gpt2Name : llamaName;
  naming.fusedQkv = gpt2 ? gpt2FusedQkv : nullptr;
  naming.transposedLinears = gpt2;
  if (Status s = builder.mapTensors(naming); !s) return s.error();
  return std::shared_ptr<const Model>(std::move(builder.model));
}

}  // namespace winnow
