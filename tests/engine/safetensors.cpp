// SPDX-License-Identifier: GPL-3.0-or-later

#include "tests/engine/gguf/tiny.h"

using namespace winnow;

namespace {

std::string golden(const std::string& name) { return std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + name; }

std::shared_ptr<const Model> opened(const std::string& path) {
#ifndef WINNOW_HAS_HUGGINGFACE
  SKIP("built without nlohmann-json");
#endif
  auto model = Model::open(path);
  if (!model) throw std::runtime_error(model.error().message);
  return *model;
}

}  // namespace

TEST(llama3_scaling) {
  const auto m = opened(golden("llama3"));
  const ModelConfig& c = m->config();
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.headDim, 8);
  EXPECT(c.rope.scaling == RopeScaling::llama3);
  EXPECT_EQ(c.rope.base, 500.0f);
  EXPECT_EQ(c.rope.factor, 8.0f);
  EXPECT_EQ(c.rope.originalContext, 16);
  EXPECT(!c.tiedHead);
  EXPECT_EQ(m->format(), "safetensors");
  EXPECT_EQ(c.parameters, 2 * 272 * 32 + 32 + 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 44 * 32 + 64));
  EXPECT(m->notes().empty(), m->notes().empty() ? "" : m->notes()[0]);
}

TEST(linear_scaling_and_tied_head) {
  const auto m = opened(golden("llama-linear"));
  EXPECT(m->config().rope.scaling == RopeScaling::linear);
  EXPECT_EQ(m->config().rope.factor, 2.0f);
  EXPECT(m->config().tiedHead);
  EXPECT(m->find(TensorRole::head) == nullptr);
  EXPECT_EQ(m->config().parameters, 272 * 32 + 32 + 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 44 * 32 + 64));
}

TEST(mistral_window_and_head_size) {
  const auto m = opened(golden("mistral"));
  EXPECT_EQ(m->config().architecture, "llama");
  EXPECT_EQ(m->config().slidingWindow, 20);
  EXPECT_EQ(m->config().headDim, 12);
  EXPECT_EQ(m->find(TensorRole::o, 0)->cols, 48);
}

TEST(qwen2_biases) {
  const auto m = opened(golden("qwen2"));
  EXPECT_EQ(m->config().architecture, "qwen2");
  EXPECT_EQ(m->config().slidingWindow, 0);
  EXPECT(m->find(TensorRole::qBias, 2) && m->find(TensorRole::vBias, 0) && !m->find(TensorRole::oBias, 0));
}

TEST(qwen3_shards_and_norms) {
  const auto m = opened(golden("qwen3"));
  EXPECT(m->config().qkNorm);
  EXPECT(m->find(TensorRole::qNorm, 1) && m->find(TensorRole::kNorm, 1));
  const auto one = opened(golden("qwen3/model-00002-of-00004.safetensors"));  // a part opens the whole
  EXPECT_EQ(one->config().parameters, m->config().parameters);
  EXPECT_EQ(m->tensors().size(), one->tensors().size());
}

TEST(gpt2_transposes) {
  const auto m = opened(golden("gpt2"));
  const ModelConfig& c = m->config();
  EXPECT(c.position == PositionKind::learned && c.activation == Activation::geluTanh && c.tiedHead);
  EXPECT_EQ(c.ffn, 128);
  // Element (out, in) of W lies at (in, out) of what is stored; k begins at column 32 of c_attn.
  const MasterTensor* k = m->find(TensorRole::k, 1);
  EXPECT(k->transposed && !k->direct());
  std::vector<float> rows(static_cast<size_t>(5 * 32));
  Model::decodeRows(*k, 3, 5, rows.data());
  for (int r = 0; r < 5; ++r)
    for (int in = 0; in < 32; ++in) {
      float stored;
      std::memcpy(&stored, k->data + (in * 96 + 32 + 3 + r) * 4, 4);
      EXPECT_EQ(rows[static_cast<size_t>(r * 32 + in)], stored);
    }
  const MasterTensor* down = m->find(TensorRole::down, 0);
  EXPECT_EQ(down->rows, 32);
  EXPECT_EQ(down->cols, 128);
  EXPECT(m->validateValues().ok());
}

TEST(tokenizer_json) {
  const auto m = opened(golden("qwen3"));
  const VocabData& v = m->vocab();
  EXPECT(v.kind == VocabData::Kind::bpe);
  EXPECT_EQ(v.tokens.size(), size_t{272});
  EXPECT_EQ(v.tokens[0], "<|endoftext|>");
  EXPECT(v.types[0] == VocabData::TokenType::control);
  EXPECT_EQ(v.merges.size(), size_t{15});
  EXPECT_EQ(v.splitPatterns.size(), size_t{1});
  EXPECT_EQ(v.eos, 0);
  EXPECT(!v.addBos);
}

TEST(tokenizer_folders) {
#ifndef WINNOW_HAS_HUGGINGFACE
  SKIP("built without nlohmann-json");
#endif
  const auto gpt2 = Model::openVocab(test::sharedData("tokenizers/gpt2"));
  EXPECT(gpt2.ok(), gpt2.ok() ? "" : gpt2.error().message);
  const auto gguf = Model::openVocab(test::sharedData("tokenizers/ggml-vocab-gpt-2.gguf"));
  EXPECT(gguf.ok());
  if (gpt2 && gguf) {
    EXPECT(gpt2->tokens == gguf->tokens);
    EXPECT(gpt2->merges == gguf->merges);
    EXPECT_EQ(gpt2->pre, gguf->pre);
    EXPECT(gpt2->types == gguf->types);
    EXPECT_EQ(gpt2->eos, gguf->eos);
  }
  const auto qwen = Model::openVocab(test::sharedData("tokenizers/qwen2.5"));
  EXPECT(qwen.ok(), qwen.ok() ? "" : qwen.error().message);
  if (qwen) {
    EXPECT_EQ(qwen->pre, "qwen2");
    EXPECT_EQ(qwen->tokens.size(), size_t{151665});
    EXPECT_EQ(qwen->tokens[151645], "<|im_end|>");
    EXPECT_EQ(qwen->eos, 151645);
    EXPECT_EQ(qwen->merges.size(), size_t{151387});
    EXPECT(!qwen->addBos && qwen->chatTemplate.size() > 100);
  }
}

TEST(tokenizer_models) {
  const auto llama2 = Model::openVocab(test::sharedData("tokenizers/llama2_tokenizer.model"));
  const auto gguf = Model::openVocab(test::sharedData("tokenizers/ggml-vocab-llama-spm.gguf"));
  EXPECT(llama2.ok(), llama2.ok() ? "" : llama2.error().message);
  EXPECT(gguf.ok());
  if (llama2 && gguf) {
    EXPECT(llama2->tokens == gguf->tokens);
    EXPECT(llama2->scores == gguf->scores);
    EXPECT(llama2->types == gguf->types);
    EXPECT_EQ(llama2->bos, gguf->bos);
    EXPECT_EQ(llama2->eos, gguf->eos);
    EXPECT_EQ(llama2->addBos, gguf->addBos);
    EXPECT_EQ(llama2->addPrefixSpace, gguf->addPrefixSpace);
  }
  const auto llama3 = Model::openVocab(test::sharedData("tokenizers/llama3_tokenizer.model"));
  EXPECT(llama3.ok(), llama3.ok() ? "" : llama3.error().message);
  if (llama3) {
    EXPECT_EQ(llama3->tokens.size(), size_t{128256});
    EXPECT_EQ(llama3->tokens[128009], "<|eot_id|>");
    EXPECT_EQ(llama3->tokens[128255], "<|reserved_special_token_250|>");
    EXPECT_EQ(llama3->merges[0], "\xc4\xa0 \xc4\xa0");
    EXPECT(llama3->merges.size() > 127000);
  }
}

#ifdef WINNOW_HAS_HUGGINGFACE
namespace {

const char* kLlamaConfig = R"({"architectures":["LlamaForCausalLM"],"hidden_size":8,"intermediate_size":12,"num_hidden_layers":1,
  "num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"vocab_size":5,"max_position_embeddings":16,"rms_norm_eps":1e-5,
  "tie_word_embeddings":true})";

// Tensors of the tiny Llama under the names of Hugging Face; q and k in half-split order.
std::vector<test::TinyTensor> huggingFaceTensors() {
  const char* names[] = {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight",
                         "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                         "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
                         "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
                         "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"};
  std::vector<test::TinyTensor> out = test::llamaTensors({});
  for (size_t i = 0; i < out.size(); ++i) out[i].name = names[i];
  return out;
}
std::string folder(const std::string& name, const std::string& config, const std::string& weights) {
  test::written(name + "/config.json", config);
  test::written(name + "/model.safetensors", weights);
  return (test::scratch() / name).string();
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + from);
  return text.replace(at, from.size(), to);
}

}  // namespace

// What a converter does: rows of a head interleaved for pairs of neighbours.
TEST(folder_equals_gguf) {
  const auto hf = opened(folder("same", kLlamaConfig, test::safetensorsText(huggingFaceTensors())));
  std::vector<test::TinyTensor> t = test::llamaTensors({});
  for (const size_t which : {3, 4}) {
    const std::vector<float> before = t[which].values;
    for (int64_t row = 0; row < t[which].shape[0]; ++row) {
      const int64_t head = row / 4, c = row % 4, place = head * 4 + (c % 2) * 2 + c / 2;  // 0 2 1 3
      for (int64_t col = 0; col < 8; ++col)
        t[which].values[static_cast<size_t>(8 * row + col)] = before[static_cast<size_t>(8 * place + col)];
    }
  }
  const auto gguf = opened(test::written("same.gguf", test::ggufText([](GgufHeader& h) { test::llamaKeys(h, {}); }, t)));
  EXPECT_EQ(hf->tensors().size(), gguf->tensors().size());
  for (const MasterTensor& tensor : hf->tensors())
    EXPECT(test::decoded(*hf, tensor.role, tensor.layer) == test::decoded(*gguf, tensor.role, tensor.layer), tensorRoleName(tensor.role));
  EXPECT_EQ(hf->config().parameters, gguf->config().parameters);
  EXPECT_EQ(hf->config().normEps, gguf->config().normEps);
}

TEST(folder_refusals) {
  const std::string good = test::safetensorsText(huggingFaceTensors());
  const auto config = [&](const std::string& from, const std::string& to) { return folder("c", replaced(kLlamaConfig, from, to), good); };
  EXPECT_REFUSED(config("LlamaForCausalLM", "MambaForCausalLM"), "'MambaForCausalLM' is not supported");
  EXPECT_REFUSED(config("\"hidden_size\":8", "\"hidden_size\":\"8\""), "hidden_size should be an integer, found string");
  EXPECT_REFUSED(config("\"hidden_size\":8,", ""), "hidden_size should be an integer, it is missing");
  EXPECT_REFUSED(config("\"hidden_size\":8", "\"hidden_size\":16"), "was expected from the configuration");
  EXPECT_REFUSED(config("\"hidden_size\":8", "\"hidden_size\":99999999999"), "hidden_size should be an integer");
  EXPECT_REFUSED(config("\"hidden_size\":8", "\"hidden_size\":-8"), "the hidden size is -8");
  EXPECT_REFUSED(config("\"num_attention_heads\":2", "\"num_attention_heads\":0"), "at least 1");
  EXPECT_REFUSED(config("true}", "false}"), "'lm_head.weight' is missing");
  EXPECT_REFUSED(config("true}", "true"), "not valid JSON");
  EXPECT_REFUSED(config("true}", "true,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2.0}}"),
                 "'yarn' is not supported; default, linear and llama3");
  EXPECT_REFUSED(config("true}", "true,\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2.0}}"), "'dynamic' is not supported");
  EXPECT_REFUSED(config("true}", "true,\"rope_scaling\":{\"rope_type\":\"linear\"}}"), "rope_scaling.factor should be a number");
  EXPECT_REFUSED(config("true}", "true,\"hidden_act\":\"relu\"}"), "the activation 'relu' is not supported");
  EXPECT_REFUSED(config("true}", "true,\"quantization_config\":{\"quant_method\":\"gptq\"}}"), "is quantized");
  EXPECT_REFUSED(config("true}", "true,\"tie_word_embeddings\":true}"), "'tie_word_embeddings' twice");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100; ++i) deep += "[";
  EXPECT_REFUSED(folder("c", deep, good), "nested deeper");
  std::filesystem::remove(test::scratch() / "c/config.json");
  EXPECT_REFUSED((test::scratch() / "c").string(), "config.json is missing");
  std::filesystem::remove(test::scratch() / "c/model.safetensors");
  EXPECT_REFUSED((test::scratch() / "c").string(), "no .safetensors file");
}

TEST(safetensors_refusals) {
  const std::string good = test::safetensorsText(huggingFaceTensors());
  EXPECT_EQ(test::refusal(folder("s", kLlamaConfig, good)), "");
  const auto refusedWith = [&](const std::string& from, const std::string& to, const char* part) {
    std::string text = good.substr(8);
    text = replaced(text, from, to);
    const uint64_t length = good.find("}}") + 2 - 8 + to.size() - from.size();
    EXPECT_REFUSED(folder("s", kLlamaConfig, std::string(reinterpret_cast<const char*>(&length), 8) + text), part);
  };
  refusedWith("\"F32\"", "\"F64\"", "bytes, 320 were expected");
  refusedWith("\"F32\"", "\"F4\"", "is of type F4, which this program cannot read; it reads F32, F16, BF16");
  refusedWith("[5,8]", "[5,9]", "has 160 bytes, 180 were expected");
  refusedWith("[0,160]", "[160,0]", "lies outside the file");
  refusedWith("[0,160]", "[0,-160]", "impossible data_offsets");
  refusedWith("[0,160]", "[0,99999999]", "lies outside the file");
  refusedWith("\"model.norm.weight\"", "\"model.embed_tokens.weight\"", "twice");
  refusedWith("\"model.norm.weight\"", "\"model.narm.weight\"", "'model.norm.weight' is missing");
  refusedWith("\"shape\"", "\"shap\"", "without dtype, shape or data_offsets");
  for (size_t n = 1; n < good.size(); n += n < 100 ? 7 : 211)
    EXPECT(!test::refusal(folder("s", kLlamaConfig, good.substr(0, n))).empty(), n);
  std::string huge = good;
  huge.replace(0, 8, "\xff\xff\xff\xff\xff\xff\xff\x7f");
  EXPECT_REFUSED(folder("s", kLlamaConfig, huge), "not a safetensors file or it is incomplete");
}

TEST(shards) {
  const std::vector<test::TinyTensor> all = huggingFaceTensors();
  const auto put = [&](const std::string& index, bool second) {
    std::filesystem::remove_all(test::scratch() / "parts");
    test::written("parts/config.json", kLlamaConfig);
    test::written("parts/a.safetensors", test::safetensorsText({all.begin(), all.begin() + 5}));
    if (second) test::written("parts/b.safetensors", test::safetensorsText({all.begin() + 5, all.end()}));
    test::written("parts/model.safetensors.index.json", index);
    return (test::scratch() / "parts").string();
  };
  const std::string index = R"({"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})";
  EXPECT_EQ(test::refusal(put(index, true)), "");
  EXPECT_REFUSED(put(index, false), "the part 'b.safetensors' that model.safetensors.index.json names is missing");
  EXPECT_REFUSED(put(R"({"weight_map":{"x":"../a.safetensors"}})", true), "should be a name in this folder");
  EXPECT_REFUSED(put(R"({"weight_map":{"x":"a.safetensors"}})", true), "is missing");
  EXPECT_REFUSED(put(R"({"weight_map":[]})", true), "weight_map should be an object");
  std::filesystem::remove(test::scratch() / "parts/model.safetensors.index.json");
  EXPECT_REFUSED((test::scratch() / "parts").string(), "2 .safetensors files");
}

TEST(misaligned_data_is_copied) {
  std::string text = test::safetensorsText(huggingFaceTensors(), "\"__metadata__\":{\"n\":\"\"}");
  for (int pad = 0; pad < 4; ++pad) {
    const std::string before = "\"__metadata__\":{\"n\":\"" + std::string(static_cast<size_t>(pad), 'x') + "\"}";
    const auto m = opened(folder("odd", kLlamaConfig, test::safetensorsText(huggingFaceTensors(), before)));
    for (const MasterTensor& t : m->tensors()) EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data) % 4, uintptr_t{0});
    EXPECT(test::decoded(*m, TensorRole::down, 0) == test::llamaTensors({})[10].values);
  }
}

TEST(half_precision_folders) {
  std::string text = test::safetensorsText(huggingFaceTensors());
  std::string header = text.substr(8, text.find("}}") + 2 - 8), data = text.substr(text.find("}}") + 2), half;
  for (size_t i = 0; i < data.size(); i += 4) half += data.substr(i + 2, 2);  // the upper half of an f32 is a bf16
  for (size_t at; (at = header.find("F32")) != std::string::npos;) header.replace(at, 3, "BF16");
  for (size_t at = 0; (at = header.find("offsets\":[", at)) != std::string::npos;) {
    at += 10;
    const size_t comma = header.find(',', at), end = header.find(']', at);
    const std::string range = std::to_string(std::stoul(header.substr(at, comma - at)) / 2) + "," +
                              std::to_string(std::stoul(header.substr(comma + 1, end - comma - 1)) / 2);
    header.replace(at, end - at, range);
  }
  const uint64_t length = header.size();
  const auto m = opened(folder("bf16", kLlamaConfig, std::string(reinterpret_cast<const char*>(&length), 8) + header + half));
  EXPECT_EQ(m->typeSummary(), "bf16");
  const std::vector<float> found = test::decoded(*m, TensorRole::q, 0), exact = test::llamaTensors({})[3].values;
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], exact[i], exact[i] / 128 + 1e-6);
}

TEST(gpt2_names_with_and_without_prefix) {
  std::string file = test::readFile(golden("gpt2/model.safetensors"));
  const std::string config = test::readFile(golden("gpt2/config.json"));
  const auto with = opened(golden("gpt2"));
  uint64_t length;
  std::memcpy(&length, file.data(), 8);
  std::string header = file.substr(8, length);
  for (size_t at; (at = header.find("\"transformer.")) != std::string::npos;) header.replace(at, 13, "\"");
  const uint64_t shorter = header.size();
  const auto without =
      opened(folder("gpt2", config, std::string(reinterpret_cast<const char*>(&shorter), 8) + header + file.substr(8 + length)));
  for (const MasterTensor& t : with->tensors())
    EXPECT(test::decoded(*with, t.role, t.layer) == test::decoded(*without, t.role, t.layer), tensorRoleName(t.role));
}

TEST(tokenizer_json_kinds) {
  const auto vocabOf = [](const std::string& json, const std::string& config = "{}") {
    test::written("tok/tokenizer.json", json);
    test::written("tok/tokenizer_config.json", config);
    return Model::openVocab((test::scratch() / "tok").string());
  };
  const std::string spm = R"({"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"</s>":2,"<0x41>":3,
    "\u2581":4,"a":5,"b":6,"ab":7,"\u2581ab":8},"merges":["a b","\u2581 ab"]},"normalizer":{"type":"Sequence","normalizers":[
    {"type":"Prepend","prepend":"\u2581"},{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},"pre_tokenizer":null,
    "added_tokens":[{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true},
    {"id":2,"content":"</s>","special":true},{"id":9,"content":"<tool>","special":false}],
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
    {"Sequence":{"id":"A","type_id":0}}]}})";
  const auto v = vocabOf(spm, R"({"eos_token":{"content":"</s>"},"chat_template":[{"name":"default","template":"T"}]})");
  EXPECT(v.ok(), v.ok() ? "" : v.error().message);
  EXPECT(v->kind == VocabData::Kind::spm && v->addPrefixSpace && v->addBos && !v->addEos);
  EXPECT_EQ(v->tokens.size(), size_t{10});
  EXPECT_EQ(v->unk, 0);
  EXPECT_EQ(v->bos, 1);
  EXPECT_EQ(v->eos, 2);
  EXPECT_EQ(v->scores[7], 0.0f);
  EXPECT_EQ(v->scores[8], -1.0f);
  EXPECT(v->types[3] == VocabData::TokenType::byte && v->types[9] == VocabData::TokenType::userDefined &&
         v->types[0] == VocabData::TokenType::unknown && v->types[1] == VocabData::TokenType::control &&
         v->types[5] == VocabData::TokenType::normal);
  EXPECT_EQ(v->chatTemplate, "T");
  const std::string llama3 =
      R"({"model":{"type":"BPE","ignore_merges":true,"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]},"pre_tokenizer":{"type":"Sequence",
    "pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},
    {"type":"ByteLevel","use_regex":false}]}})";
  const auto w = vocabOf(llama3, R"({"add_bos_token":true})");
  EXPECT(w.ok() && w->kind == VocabData::Kind::bpe && w->ignoreMerges && w->addBos);
  EXPECT(w->splitPatterns == std::vector<std::string>{"\\p{N}{1,3}"});
  EXPECT(w->merges == std::vector<std::string>{"a b"});
  const auto refused = [&](const std::string& json, const char* part) {
    const auto bad = vocabOf(json);
    EXPECT(!bad.ok() && bad.error().message.find(part) != std::string::npos, bad.ok() ? "opened" : bad.error().message);
  };
  refused(R"({"model":{"type":"Unigram","vocab":[]}})", "'Unigram' is not supported");
  refused(replaced(llama3, "Split", "Shred"), "the pre-tokenizer 'Shred' is not supported");
  refused(replaced(llama3, "Isolated", "MergedWithNext"), "'MergedWithNext' is not supported");
  refused(replaced(llama3, "\"ab\":2", "\"ab\":1"), "have the same id 1");
  refused(replaced(llama3, "\"ab\":2", "\"ab\":4000000000"), "should be a number below");
  refused(replaced(llama3, "\"ab\":2", "\"ab\":-1"), "should be a number below");
  refused(replaced(llama3, "[\"a\",\"b\"]", "\"ab\""), "two tokens with a space between");
  refused(replaced(spm, "\"id\":9", "\"id\":900000"), "has the id 900000");
  refused("[]", "a JSON object was expected");
}

TEST(tokenizer_model_faults) {
  const std::string good = test::readFile(test::sharedData("tokenizers/llama2_tokenizer.model"));
  const auto refused = [&](const std::string& bytes, const char* part) {
    const auto v = Model::openVocab(test::written("t.model", bytes));
    EXPECT(!v.ok() && v.error().message.find(part) != std::string::npos, v.ok() ? "opened" : v.error().message);
  };
  refused(good.substr(0, 100001), "damaged");
  refused("\x0a", "damaged");
  refused("IQ== 0\nIg== 2\n", "line 2 is neither");
  refused("IQ== 0\nIg== 1\n", "a list of 2 tiktoken ranks");
  refused("IQ== 0\nIQ== 1\n", "line 2 holds a token that was there before");
}
#endif
