#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Perplexity by llama.cpp's strided protocol (--ppl-stride): its library computes the logits, the arithmetic is written out here.

    pip install llama-cpp-python numpy && python3 llama_stride.py MODEL.gguf TEXT CONTEXT STRIDE CHUNKS

The figures stand in tests/engine/perplexity.cpp.
"""
import math
import sys

import llama_cpp
import numpy


def main():
    path, text, context, stride, chunks = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    window = context + stride // 2
    model = llama_cpp.Llama(model_path=path, n_ctx=window, n_batch=window, n_threads=1, logits_all=True, verbose=False)
    tokens = model.tokenize(open(text, "rb").read(), add_bos=True)
    nll, count = 0.0, 0
    for chunk in range(min(chunks, (len(tokens) - window + stride - 1) // stride)):
        ids = tokens[chunk * stride:chunk * stride + window]
        model.reset()
        model.eval(ids)
        for j in range(window - stride - 1, window - 1):
            row = numpy.asarray(model.scores[j], dtype=numpy.float64)
            top = row.max()
            nll += math.log(numpy.exp(row - top).sum()) + top - row[ids[j + 1]]
            count += 1
    print(f"{len(tokens)} tokens, {count} predictions, perplexity {math.exp(nll / count):.4f}")


if __name__ == "__main__":
    main()
