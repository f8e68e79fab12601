#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Hugging Face transformers and llama.cpp compute on the starter model (resources/starter), for tests/engine/starter.cpp.

    pip install torch transformers tokenizers llama-cpp-python numpy
    python3 make.py transformers FOLDER-OF-SAFETENSORS
    python3 make.py llama.cpp

The first writes logits.f32 (little-endian [positions, vocab], f32 arithmetic), golden.json (the ids fed, the positions kept) and
texts.jsonl (1000 random texts with their ids); the second writes perplexity.json: resources/texts/sample.txt by the protocol of
llama-perplexity, context 256.
"""
import json
import math
import pathlib
import random
import struct
import sys

HERE = pathlib.Path(__file__).parent
RESOURCES = HERE.parent.parent.parent / "resources"
SAMPLE = RESOURCES / "texts" / "sample.txt"


def random_texts(count):
    """Words of the sample, and what tokenizers stumble over: runs of white space, digits, apostrophes, scripts, emoji, joiners."""
    source = random.Random(20260101)
    words = SAMPLE.read_text(encoding="utf-8").split()
    odd = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "'s", "'LL", "don't", "1234567", "3.14", "…", "—", "naïve", "ß", "Ж", "日本語", "नमस्ते",
           "\u00a0", "\u200d", "👩‍👩‍👧", "e\u0301", "#!/", "<|end", "{}", "____", "A" * 30, "\u2028", "½"]
    texts = []
    for _ in range(count):
        parts = [source.choice(words) if source.random() < 0.7 else source.choice(odd) for _ in range(source.randint(1, 12))]
        texts.append("".join(p + (" " if source.random() < 0.7 else "") for p in parts))
    return texts


def from_transformers(folder):
    import torch
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(pathlib.Path(folder) / "tokenizer.json"))
    ids = words(SAMPLE.read_text(encoding="utf-8")).input_ids[:200]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    positions = [0, 1, 63, 127, 199]
    (HERE / "logits.f32").write_bytes(b"".join(struct.pack(f"<{logits.shape[1]}f", *logits[p].tolist()) for p in positions))
    made_by = f"transformers {transformers.__version__}, torch {torch.__version__}"
    (HERE / "golden.json").write_text(json.dumps({"made_by": made_by, "ids": ids, "positions": positions}) + "\n")
    texts = random_texts(1000)
    lines = [json.dumps({"text": text, "ids": words.encode(text, add_special_tokens=False)}, ensure_ascii=False) for text in texts]
    (HERE / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def from_llama_cpp(context=256):
    import llama_cpp
    import numpy
    model = llama_cpp.Llama(model_path=str(RESOURCES / "starter" / "starter.gguf"), n_ctx=context, n_batch=context, n_threads=1, logits_all=True, verbose=False)
    tokens = model.tokenize(SAMPLE.read_bytes(), add_bos=True)
    nll, count, chunks = 0.0, 0, len(tokens) // context
    for chunk in range(chunks):
        ids = tokens[chunk * context:(chunk + 1) * context]
        ids[0] = model.token_bos()
        model.reset()
        model.eval(ids)
        for j in range(context // 2, context - 1):
            row = numpy.asarray(model.scores[j], dtype=numpy.float64)
            top = row.max()
            nll += math.log(numpy.exp(row - top).sum()) + top - row[ids[j + 1]]
            count += 1
    figures = {"made_by": f"llama-cpp-python {llama_cpp.__version__}", "context": context, "tokens": len(tokens), "chunks": chunks, "count": count,
               "perplexity": math.exp(nll / count)}
    (HERE / "perplexity.json").write_text(json.dumps(figures) + "\n")
    print(figures)


if __name__ == "__main__":
    from_transformers(sys.argv[2]) if sys.argv[1] == "transformers" else from_llama_cpp()
