#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Winnow beside llama.cpp on the same file: pp512 and tg128 as llama-bench defines them, interleaved A B B A.

Needs the PyPI package llama-cpp-python (llama.cpp built for this machine). Prints the tokens per second of every round, the
medians and the ratio Winnow / llama.cpp with the interval of its rounds.

    python3 tests/bench/peer_llama.py build/release/bin/winnow-cli MODEL.gguf --threads 2 --rounds 5 [--set compute.activations=int8]
"""
import argparse
import ctypes
import json
import random
import statistics
import subprocess
import time

import llama_cpp


class Llama:
    """llama-bench's two loops on the C API: fresh cache, BOS first if the vocabulary adds it, random tokens."""

    def __init__(self, path, threads, context):
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.bos = llama_cpp.llama_vocab_bos(self.vocab) if llama_cpp.llama_vocab_get_add_bos(self.vocab) else None

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def decode(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            raise SystemExit("llama_decode failed")
        llama_cpp.llama_synchronize(self.context)

    def first(self):
        return random.randrange(self.size) if self.bos is None else self.bos

    def prompt(self, n):
        self.clear()
        tokens = [self.first()] + [random.randrange(self.size) for _ in range(n - 1)]
        start = time.perf_counter()
        self.decode(tokens)
        return n / (time.perf_counter() - start)

    def generate(self, n):
        self.clear()
        token = self.first()
        start = time.perf_counter()
        for _ in range(n):
            self.decode([token])
            token = random.randrange(self.size)
        return n / (time.perf_counter() - start)


@llama_cpp.llama_log_callback
def SILENT(level, text, user):
    pass


def winnow(arguments, prompt, generate):
    command = [arguments.winnow, "bench", arguments.model, "-p", str(prompt), "-n", str(generate), "-r", "1", "--json",
               "--threads", str(arguments.threads)]
    for setting in arguments.set:
        command += ["--set", setting]
    tests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["tests"]
    rate = {test["name"]: test["tokens_per_second"] for test in tests}
    return rate[f"pp{prompt}"], rate[f"tg{generate}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("winnow")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-p", type=int, default=512)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    peer = Llama(arguments.model, arguments.threads, arguments.p + arguments.n)
    peer.prompt(arguments.p), peer.generate(8)  # warm-up

    rates = {"winnow": [], "llama.cpp": []}
    for round_number in range(arguments.rounds):
        order = ["winnow", "llama.cpp"] if round_number % 2 == 0 else ["llama.cpp", "winnow"]
        for who in order:
            if who == "winnow":
                rates[who].append(winnow(arguments, arguments.p, arguments.n))
            else:
                rates[who].append((peer.prompt(arguments.p), peer.generate(arguments.n)))
    for index, name in enumerate([f"pp{arguments.p}", f"tg{arguments.n}"]):
        ours = [r[index] for r in rates["winnow"]]
        theirs = [r[index] for r in rates["llama.cpp"]]
        ratios = sorted(a / b for a, b in zip(ours, theirs))
        print(f"{name:8} winnow {statistics.median(ours):9.1f} t/s   llama.cpp {statistics.median(theirs):9.1f} t/s   "
              f"ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]  n = {len(ratios)}")


if __name__ == "__main__":
    main()
