#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tiny random models of this folder and what Hugging Face transformers computes on them (f32, CPU, eager attention).

    pip install torch transformers tokenizers && python3 make.py

One folder a family: config.json, safetensors, tokenizer.json, golden.json (token ids of a sentence, a sequence of ids, the
positions whose logits are kept) and logits.f32 (little-endian [positions, vocab]).
"""
import json
import pathlib
import struct

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
VOCAB, TOKENS = 272, 48
COMMON = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=44, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, attn_implementation="eager")

FAMILIES = {
    "llama3": transformers.LlamaConfig(**COMMON, tie_word_embeddings=False, rms_norm_eps=1e-5, rope_parameters=dict(
        rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)),
    "llama-linear": transformers.LlamaConfig(**COMMON, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="linear", rope_theta=10000.0, factor=2.0)),
    "mistral": transformers.MistralConfig(**COMMON, head_dim=12, sliding_window=20, tie_word_embeddings=False),
    "qwen2": transformers.Qwen2Config(**COMMON, tie_word_embeddings=True, rms_norm_eps=1e-6),
    "qwen3": transformers.Qwen3Config(**COMMON, head_dim=16, tie_word_embeddings=False, rms_norm_eps=1e-6),
    "gpt2": transformers.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=0,
                                    eos_token_id=0, attn_implementation="eager"),
}


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(["the cat sat on the mat and then the other cat sat there too"] * 4, trainer)
    return made


def main():
    words = tokenizer()
    sentence = "then the cat sat on that hat, naïvely: 小 12"
    for index, (name, config) in enumerate(FAMILIES.items()):
        torch.manual_seed(100 + index)
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():  # biases and norms away from their trivial initial values
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
                else:
                    parameter.mul_(6.0)
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        model.save_pretrained(folder, max_shard_size="60KB" if name == "qwen3" else "5GB")
        words.save(str(folder / "tokenizer.json"))
        (folder / "generation_config.json").unlink(missing_ok=True)
        ids = torch.randint(1, VOCAB, (TOKENS,))
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        positions = list(range(5, TOKENS, 6))
        (folder / "logits.f32").write_bytes(b"".join(struct.pack(f"<{VOCAB}f", *logits[p].tolist()) for p in positions))
        (folder / "golden.json").write_text(json.dumps({
            "made_by": f"transformers {transformers.__version__}, torch {torch.__version__}", "ids": ids.tolist(),
            "positions": positions, "sentence": sentence, "sentence_ids": words.encode(sentence).ids}) + "\n")
        print(name, sum(p.numel() for p in model.parameters()), float(logits.std()))


if __name__ == "__main__":
    main()
