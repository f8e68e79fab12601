#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# PyTorch on the shapes that tests/cuda_device/run measures: bf16, random weights, one sequence. Decode is a CUDA graph of one step over a
# full cache (scaled_dot_product_attention with grouped heads), prefill runs eagerly. Prints one row a line, as the run reads them.
# peer_torch.py SECONDS [--quick]; ends with 77 where there is no PyTorch with a GPU.
import sys
import time

start = time.monotonic()
seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
quick = "--quick" in sys.argv
try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"no PyTorch: {error}")
    sys.exit(77)
if not torch.cuda.is_available():
    print("this PyTorch sees no GPU")
    sys.exit(77)

SHAPES = {  # layers, hidden, heads, kv heads, head dim, ffn, vocab
    "1b": (16, 2048, 32, 8, 64, 8192, 128256),
    "8b": (32, 4096, 32, 8, 128, 14336, 128256),
}


def row(name, text, **figures):
    print("\t".join(["-", name, text] + [f"{key}={value:.6g}" for key, value in figures.items()]), flush=True)


def skip(name, why):
    print("\t".join(["skip", name, why]), flush=True)


class Layer:
    def __init__(self, shape, cached):
        _, hidden, heads, kv_heads, dim, ffn, _ = shape

        def matrix(rows, cols):
            return torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) * cols**-0.5

        self.heads, self.kv_heads, self.dim, self.ffn = heads, kv_heads, dim, ffn
        self.qkv = matrix((heads + 2 * kv_heads) * dim, hidden)
        self.o = matrix(hidden, heads * dim)
        self.gate_up = matrix(2 * ffn, hidden)
        self.down = matrix(hidden, ffn)
        self.norms = torch.ones(2, hidden, device="cuda", dtype=torch.bfloat16)
        self.k, self.v = (torch.randn(1, kv_heads, cached, dim, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def __call__(self, x, cos, sin, decode):
        tokens = x.shape[0]
        q, k, v = F.linear(F.rms_norm(x, x.shape[-1:], self.norms[0]), self.qkv).view(1, tokens, -1, self.dim).transpose(1, 2).split(
            [self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = (self.rotate(t, cos, sin) for t in (q, k))
        if decode:  # the new key and value take the last place of a full cache
            self.k[:, :, -1:], self.v[:, :, -1:] = k, v
            out = F.scaled_dot_product_attention(q, self.k, self.v, enable_gqa=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + F.linear(out.transpose(1, 2).reshape(tokens, -1), self.o)
        gate, up = F.linear(F.rms_norm(x, x.shape[-1:], self.norms[1]), self.gate_up).split(self.ffn, dim=-1)
        return x + F.linear(F.silu(gate) * up, self.down)

    @staticmethod
    def rotate(t, cos, sin):
        a, b = t.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Model:
    def __init__(self, shape, cached):
        self.shape = shape
        self.layers = [Layer(shape, cached) for _ in range(shape[0])]
        self.head = torch.randn(shape[6], shape[1], device="cuda", dtype=torch.bfloat16) * shape[1]**-0.5
        self.embedding = self.head

    def __call__(self, tokens, decode):
        dim = self.shape[4]
        angles = torch.arange(tokens.numel(), device="cuda")[:, None] * 1e-3 * torch.ones(dim // 2, device="cuda")
        cos, sin = (f(angles).to(torch.bfloat16) for f in (torch.cos, torch.sin))
        x = self.embedding[tokens]
        for layer in self.layers:
            x = layer(x, cos, sin, decode)
        return F.linear(x[-1:], self.head).float()


def timed(body, rounds):
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        body()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    times.sort()
    return times[len(times) // 2]


def decode(name, context):
    model = Model(SHAPES[name], context)
    token = torch.zeros(1, dtype=torch.long, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(token, True)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(token, True)
    ms = timed(graph.replay, 30)
    row(f"decode {name} bf16 {context}", "torch, CUDA graph", ms=ms, tokens_per_second=1000 / ms)


def prefill(name, count):
    model = Model(SHAPES[name], 1)
    tokens = torch.randint(0, SHAPES[name][6], (count,), device="cuda")
    for _ in range(2):
        model(tokens, False)
    ms = timed(lambda: model(tokens, False), 5)
    row(f"prefill {name} bf16 {count}", "torch, eager", ms=ms, tokens_per_second=1000 * count / ms)


def main():
    cases = [(decode, "1b", 512), (decode, "8b", 512), (prefill, "8b", 2048), (prefill, "1b", 2048)]
    if not quick:
        cases += [(decode, "8b", 8192), (decode, "1b", 8192), (decode, "8b", 32768), (decode, "1b", 32768), (prefill, "8b", 512), (prefill, "8b", 8192)]
    with torch.no_grad():
        for body, name, size in cases:
            label = f"{body.__name__} {name} bf16 {size}"
            if time.monotonic() - start > seconds - 6:
                skip(label, "skipped: time")
                continue
            try:
                body(name, size)
            except Exception as error:  # another version of PyTorch, a smaller GPU: the next case may do
                skip(label, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            torch.cuda.empty_cache()


main()
