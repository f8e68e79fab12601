#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Perplexity of tiny models (../hf) as Hugging Face transformers computes it by the sliding-window recipe of its documentation.

    pip install torch transformers tokenizers && python3 make.py

huggingface.json: for each model, context and stride the windows as [first token, targets scored, mean NLL the model returns], the
perplexity by the recipe's weights (one target too few in every window that overlaps its predecessor), and that by the targets
really scored.
"""
import json
import math
import pathlib

import torch
import transformers

HERE = pathlib.Path(__file__).parent
TEXT = ("the cat sat on the mat and then the other cat sat there too. On that hat, naïvely, there sat 12 rats: \"a rat, a hat, a mat!\" "
        "they said, and the cats, the fat ones and the thin ones, ate them all.\nThen it rained — 小雨 — and the mat was wet.\n") * 2


def evaluate(model, ids, context, stride):
    total, valid_total, exact, exact_count, before = 0.0, 0, 0.0, 0, 0
    windows = []
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + context, ids.shape[1])
        fresh = end - before
        inputs = ids[:, begin:end]
        labels = inputs.clone()
        labels[:, :-fresh] = -100
        with torch.no_grad():
            mean = model(inputs, labels=labels).loss.item()
        valid = int((labels != -100).sum())
        scored = int((labels[:, 1:] != -100).sum())  # the model shifts labels by one
        windows.append([begin, scored, mean])
        total += mean * (valid - 1)
        valid_total += valid - 1
        exact += mean * scored
        exact_count += scored
        before = end
        if end == ids.shape[1]:
            break
    return {"context": context, "stride": stride, "windows": windows, "perplexity": math.exp(total / valid_total),
            "exact_perplexity": math.exp(exact / exact_count)}


def main():
    golden = {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}", "text": TEXT, "models": {}}
    for name in ["gpt2", "llama-linear", "qwen2"]:
        folder = HERE.parent / "hf" / name
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").float().eval()
        words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        ids = words(TEXT, return_tensors="pt").input_ids
        runs = [evaluate(model, ids, 48, stride) for stride in [48, 24, 7]]
        golden["models"][name] = {"tokens": ids.shape[1], "runs": runs}
        print(name, ids.shape[1], [(run["stride"], run["perplexity"], run["exact_perplexity"]) for run in runs])
    (HERE / "huggingface.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
