#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains Winnow's starter model and its proxy, from text to GGUF. Needs PyTorch, tokenizers, safetensors and numpy from PyPI;
neither building nor running Winnow needs any of them.

    python3 train.py --text DIR --work DIR --out DIR --model starter --minutes 14
    python3 train.py --text DIR --work DIR --out DIR --model proxy --minutes 3

Steps, each done once and kept in --work: decompress, train the tokenizer, encode; then train until --minutes of training time
are spent. --stop-after M saves the state and exits after M minutes of this call; the same command goes on where it stopped.
Learning rate and context follow the share of --minutes that is spent, so the run fits the machine: a GPU for minutes, a CPU for
hours. At the end --out holds NAME.gguf (bf16), NAME-hf/ (safetensors, config.json, tokenizer.json) and NAME.json (the record:
curve, bits per byte, hardware, command). --part-bytes also cuts the GGUF into parts (join them with cat).
"""
import argparse
import concurrent.futures
import json
import lzma
import math
import pathlib
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END = "<|endoftext|>"  # BOS, EOS and the separator of documents, id 0
VOCAB = 8192
# Short stories are 6 % of the bytes and what the model is for: a run on a CPU sees few tokens and spends most of them there.
TEXTS = {"stories": ("tinystories", "storybooks"), "books": ("children", "novels", "wiki")}
NAMES = [name for names in TEXTS.values() for name in names]
STORY_SHARE = {"cuda": (0.25, 0.25), "cpu": (0.85, 1.0)}  # of the windows; of those in the last eighth of a run
# About 16 M and 1.6 M parameters, head tied to the embedding. The stories are 3 M tokens, seen many times: without dropout the
# starter learns them by heart, which the proxy is too small for. Of so few tokens the proxy does not learn by itself to look back,
# which is all that attribution wants of it: `repeat` of its windows say again what stood before. `longer`: shares of a run after
# which a CPU sees windows of 512, then whole contexts.
SHAPES = {
    "starter": dict(hidden=384, layers=10, heads=6, kv_heads=2, ffn=768, dropout=0.1, sink=0.3, repeat=0.0, longer=(0.875, 0.98)),
    "proxy": dict(hidden=128, layers=3, heads=2, kv_heads=1, ffn=320, dropout=0.0, sink=0.0, repeat=0.5, longer=(0.6, 0.9)),
}
HEAD_DIM, CONTEXT, ROPE_BASE, NORM_EPS = 64, 2048, 10000.0, 1e-5
# Large models learn to rest idle heads on the first token, after more tokens than a run on a CPU sees. Here a small penalty
# asks each layer but the first for the mean share `sink` of its attention; which heads and tokens rest is left to the model.
SINK_WEIGHT = 0.1


# ---- text -------------------------------------------------------------------------------------------------------------

def documents(path):
    raw = lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
    return [d.strip("\n") for d in raw.split(END) if d.strip()]


def find(folder, name):
    for suffix in (".txt.xz", ".txt"):
        if (folder / (name + suffix)).exists():
            return folder / (name + suffix)
    sys.exit(f"{folder}: no {name}.txt or {name}.txt.xz")


def train_tokenizer(texts, path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # GPT-2's pattern
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    sample = [d[:4000] for name, docs in texts.items() for d in docs[:: 1 if name in TEXTS["stories"] else 10]]
    tokenizer.train_from_iterator(sample, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=END + " $A", special_tokens=[(END, 0)])
    tokenizer.save(str(path))


def prepare(arguments):
    """tokenizer.json, stories.u16 and books.u16 (ids, documents end with 0) and heldout.json (every 100th document of each text)."""
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if (work / "books.u16").exists():
        return
    start = time.time()
    with concurrent.futures.ProcessPoolExecutor() as pool:
        texts = dict(zip(NAMES, pool.map(documents, [find(arguments.text, name) for name in NAMES])))
    heldout = {name: docs[99::100] for name, docs in texts.items()}
    texts = {name: [d for i, d in enumerate(docs) if i % 100 != 99] for name, docs in texts.items()}
    train_tokenizer(texts, work / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    (work / "heldout.json").write_text(json.dumps(heldout))
    for group, names in TEXTS.items():
        parts = []
        for name in names:
            encoded = tokenizer.encode_batch_fast(texts[name], add_special_tokens=False)
            parts.append(np.concatenate([np.array(e.ids + [0], np.uint16) for e in encoded]))
            print(f"{name}: {len(texts[name])} documents, {len(parts[-1])} tokens, "
                  f"{sum(len(d.encode()) for d in texts[name]) / len(parts[-1]):.2f} bytes/token", flush=True)
        np.concatenate(parts).tofile(work / "ids.tmp")
        (work / "ids.tmp").rename(work / f"{group}.u16")
    print(f"prepared in {time.time() - start:.0f} s")


def echoed(rows, share, generator):
    """Of `share` of the windows 24 of every 64 ids but the first are a run of ids from before them. rows: [windows, ids]"""
    (count, length), run, every = rows.shape, 24, 64
    source = torch.arange(length).repeat(count, 1)
    chosen = torch.rand(count, generator=generator) < share
    for block in range(every, length - every + 1, every):
        at = block + torch.randint(0, every - run + 1, (count, 1), generator=generator) + torch.arange(run)
        before = torch.randint(0, block - run + 1, (count, 1), generator=generator) + torch.arange(run)
        source.scatter_(1, at, torch.where(chosen[:, None], before, at))
    return rows.gather(1, source.to(rows.device))


class Windows:
    """Windows of `length` ids that start with BOS; every second one at the start of a document. Drawn by (seed, step)."""

    def __init__(self, work, device, repeat):
        self.repeat = repeat
        stories, books = (np.fromfile(work / f"{group}.u16", np.uint16).astype(np.int32) for group in TEXTS)
        self.ids = torch.from_numpy(np.concatenate([stories, books])).to(device)
        self.starts = torch.nonzero(self.ids[:-CONTEXT - 1] == 0).flatten() + 1
        self.bounds = (0, len(stories) - CONTEXT - 1, len(self.ids) - CONTEXT - 1)  # stories, then books
        self.start_bounds = torch.searchsorted(self.starts, torch.tensor(self.bounds, device=device)).tolist()
        self.device = device

    def batch(self, count, length, seed, progress):
        generator = torch.Generator().manual_seed(seed)
        books = (torch.rand(count, generator=generator) >= STORY_SHARE[self.device][progress > 0.875]).long()

        def uniform(bounds):
            low, high = torch.tensor(bounds[:2])[books], torch.tensor(bounds[1:])[books]
            return (low + torch.rand(count, generator=generator, dtype=torch.float64) * (high - low)).long().to(self.device)

        anywhere, at_start = uniform(self.bounds), self.starts[uniform(self.start_bounds)]
        offset = torch.where(torch.arange(count, device=self.device) % 2 == 0, at_start, anywhere)
        rows = echoed(self.ids[offset[:, None] + torch.arange(length, device=self.device)], self.repeat, generator)
        bos = torch.zeros(count, 1, dtype=torch.int32, device=self.device)
        return torch.cat([bos, rows[:, :-1]], 1).long(), rows.long()


# ---- model ------------------------------------------------------------------------------------------------------------

def rotated(x, cos, sin):  # half-split pairs
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def first_token_share(q, k):
    """Mean attention that every 16th query pays to the first token. q, k: [windows, heads, tokens, head_dim]"""
    tokens = k.shape[2]
    first = min(15, tokens - 1)
    at = torch.arange(first, tokens, 16, device=k.device)
    scores = (q[:, :, first::16] @ k.transpose(-1, -2)).float() * HEAD_DIM ** -0.5
    hidden = torch.arange(tokens, device=k.device) > at[:, None]
    return scores.masked_fill(hidden, -math.inf).softmax(-1)[..., 0].mean()


class Block(torch.nn.Module):
    def __init__(self, s):
        super().__init__()
        linear = lambda i, o: torch.nn.Linear(i, o, bias=False)
        self.heads, self.kv_heads, self.dropout = s["heads"], s["kv_heads"], s["dropout"]
        self.attn_norm = torch.nn.RMSNorm(s["hidden"], NORM_EPS)
        self.q = linear(s["hidden"], self.heads * HEAD_DIM)
        self.k = linear(s["hidden"], self.kv_heads * HEAD_DIM)
        self.v = linear(s["hidden"], self.kv_heads * HEAD_DIM)
        self.o = linear(self.heads * HEAD_DIM, s["hidden"])
        self.ffn_norm = torch.nn.RMSNorm(s["hidden"], NORM_EPS)
        self.gate, self.up = linear(s["hidden"], s["ffn"]), linear(s["hidden"], s["ffn"])
        self.down = linear(s["ffn"], s["hidden"])

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.attn_norm(x)
        split = lambda y, n: y.view(b, t, n, HEAD_DIM).transpose(1, 2)
        q, k = rotated(split(self.q(h), self.heads), cos, sin), rotated(split(self.k(h), self.kv_heads), cos, sin)
        v = split(self.v(h), self.kv_heads)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, 1) for y in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        drop = lambda y: F.dropout(y, self.dropout, self.training)
        x = x + drop(self.o(a.transpose(1, 2).reshape(b, t, -1)))
        h = self.ffn_norm(x)
        return x + drop(self.down(F.silu(self.gate(h)) * self.up(h))), first_token_share(q, k)


class Llama(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.dropout = shape["dropout"]
        self.embedding = torch.nn.Embedding(VOCAB, shape["hidden"])
        self.blocks = torch.nn.ModuleList(Block(shape) for _ in range(shape["layers"]))
        self.norm = torch.nn.RMSNorm(shape["hidden"], NORM_EPS)
        angle = torch.outer(torch.arange(CONTEXT).float(), ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deviation = 0.02 if "embedding" in name else p.shape[1] ** -0.5
                torch.nn.init.normal_(p, std=deviation / (math.sqrt(2 * shape["layers"]) if name.endswith(("o.weight", "down.weight")) else 1))

    def forward(self, ids, targets=None):
        """Logits; with targets the cross-entropy and each layer's share of attention on the first token."""
        t = ids.shape[1]
        x = F.dropout(self.embedding(ids), self.dropout, self.training)
        cos, sin = self.cos[:t].to(x.dtype), self.sin[:t].to(x.dtype)
        shares = []
        for block in self.blocks:
            x, share = block(x, cos, sin)
            shares.append(share)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return logits if targets is None else (F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()), torch.stack(shares))


# ---- training ---------------------------------------------------------------------------------------------------------

def rate(progress, peak):
    """Warm up over 1 %, hold, fall linearly to zero over the last 40 %."""
    return peak * min(1.0, progress / 0.01 + 1e-3, (1.0 - progress) / 0.4)


@torch.no_grad()
def bits_per_byte(model, tokenizer, docs, device, length=512, limit=400):
    """Non-overlapping windows, each from BOS, every token scored."""
    ids = [i for d in docs for i in tokenizer.encode(d, add_special_tokens=False).ids + [0]]
    windows = [ids[i:i + length - 1] for i in range(0, len(ids) - length, length - 1)][:limit]
    if not windows:
        return float("nan")
    nats = 0.0
    for i in range(0, len(windows), 16):
        rows = torch.tensor(windows[i:i + 16], device=device)
        inputs = torch.cat([torch.zeros(len(rows), 1, dtype=torch.long, device=device), rows[:, :-1]], 1)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            nats += model(inputs, rows)[0].item() * rows.numel()
    size = sum(len(tokenizer.decode([i for i in w if i], skip_special_tokens=False).encode()) + 2 * w.count(0) for w in windows)
    return nats / math.log(2) / size


class Optimizer:
    """Muon (Jordan 2024) for the matrices inside the blocks, AdamW for the embedding and the norms."""
    RATES = {"starter": (5e-3, 3e-3), "proxy": (8e-3, 5e-3)}  # Muon, AdamW

    def __init__(self, model, name, device):
        matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
        vectors = [p for p in model.parameters() if p.dim() == 1]
        self.parts = (torch.optim.Muon(matrices, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
                      torch.optim.AdamW([{"params": [model.embedding.weight], "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                        betas=(0.9, 0.95), fused=True))
        self.peaks = self.RATES[name]

    def step(self, progress):
        for part, peak in zip(self.parts, self.peaks):
            for group in part.param_groups:
                group["lr"] = rate(progress, peak)
            part.step()
            part.zero_grad(set_to_none=True)


def batch_shape(device, progress, longer):
    """Windows of a step, windows of one backward pass and their length. The last part of a run sees whole contexts; before,
    shorter windows make more steps of the same time. On a CPU small passes stay in the caches: 2580 against 1510 tokens/s."""
    if device == "cuda":
        return (128, 128, CONTEXT) if progress > 0.8 else (256, 256, 1024)
    return (4, 1, CONTEXT) if progress > longer[1] else (12, 4, 512) if progress > longer[0] else (24, 8, 256)


def train(arguments, device):
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    name, shape = arguments.model, SHAPES[arguments.model]
    tokenizer = Tokenizer.from_file(str(arguments.work / "tokenizer.json"))
    heldout = json.loads((arguments.work / "heldout.json").read_text())
    windows = Windows(arguments.work, device, shape["repeat"])
    model = Llama(shape).to(device)
    optimizer = Optimizer(model, name, device)
    state = {"step": 0, "seconds": 0.0, "tokens": 0, "curve": []}
    saved = arguments.work / f"{name}.state"
    if saved.exists():
        kept = torch.load(saved, map_location=device)
        model.load_state_dict(kept["model"])
        for part, kept_part in zip(optimizer.parts, kept["optimizers"]):
            part.load_state_dict(kept_part)
        state = kept["state"]
        print(f"going on at step {state['step']}, {state['seconds'] / 60:.1f} min")

    def save():
        torch.save({"model": model.state_dict(), "optimizers": [part.state_dict() for part in optimizer.parts], "state": state},
                   saved.with_suffix(".tmp"))
        saved.with_suffix(".tmp").rename(saved)

    fast = torch.compile(model)
    total, call_start, mark = arguments.minutes * 60, time.time(), time.time()
    while state["seconds"] < total:
        progress = state["seconds"] / total
        count, at_once, length = batch_shape(device, progress, shape["longer"])
        inputs, targets = windows.batch(count, length, arguments.seed * 1_000_003 + state["step"], progress)
        value, sink = 0.0, 0.0
        for i in range(0, count, at_once):
            with torch.autocast(device, torch.bfloat16):
                loss, shares = fast(inputs[i:i + at_once], targets[i:i + at_once])
                penalty = SINK_WEIGHT * (shape["sink"] / shares[1:]).clamp(min=1).log().mean()
            ((loss + penalty) * (at_once / count)).backward()
            value += loss.detach() * (at_once / count)
            sink += shares[1:].mean().detach() * (at_once / count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(progress)
        state["step"] += 1
        state["tokens"] += inputs.numel()
        if state["step"] % 10 == 0:
            value = value.item()  # waits for the device: the clock is right here
        now = time.time()
        state["seconds"] += now - mark
        mark = now
        if state["step"] % (200 if device == "cuda" else 100) == 0:
            model.eval()
            bpb = bits_per_byte(model, tokenizer, heldout["tinystories"], device, limit=64)
            model.train()
            state["curve"].append([state["step"], round(state["seconds"]), state["tokens"], round(value, 4), round(bpb, 4)])
            print(f"step {state['step']} {state['seconds'] / 60:.1f} min {state['tokens'] / 1e6:.1f} Mtok "
                  f"{state['tokens'] / state['seconds']:.0f} tok/s loss {value:.3f} held-out tinystories {bpb:.3f} bpb, "
                  f"{sink:.2f} of the attention on the first token", flush=True)
            save()
            mark = time.time()
        if arguments.stop_after and time.time() - call_start > arguments.stop_after * 60:
            break
    save()
    if state["seconds"] < total:
        print(f"stopped at {state['seconds'] / 60:.1f} of {arguments.minutes} min; run the same command to go on")
        return None
    return model.eval(), tokenizer, heldout, state


def blended(weights, blend, work):
    """Weights with those of other states, names and shares in turn: states of a higher rate remember their text less, and few texts seen
    many times want some of that."""
    shares = [float(share) for share in blend[1::2]]
    others = [torch.load(work / name, map_location="cpu")["model"] for name in blend[::2]]
    return {key: (1 - sum(shares)) * value + sum(share * other[key].to(value.device) for share, other in zip(shares, others))
            for key, value in weights.items()}


@torch.no_grad()
def story(model, tokenizer, prompt, device, count=150, temperature=0.7):
    generator = torch.Generator(device).manual_seed(1)
    ids = tokenizer.encode(prompt).ids
    for _ in range(count):
        logits = model(torch.tensor([ids], device=device))[0, -1].float() / temperature
        top = logits.topk(40)
        ids.append(top.indices[torch.multinomial(top.values.softmax(0), 1, generator=generator)].item())
        if ids[-1] == 0:
            break
    return tokenizer.decode(ids[1:])


# ---- export -----------------------------------------------------------------------------------------------------------

def hf_names(shape):
    yield "embedding.weight", "model.embed_tokens.weight", "token_embd.weight"
    yield "norm.weight", "model.norm.weight", "output_norm.weight"
    per_block = {"attn_norm": ("input_layernorm", "attn_norm"), "ffn_norm": ("post_attention_layernorm", "ffn_norm"),
                 "q": ("self_attn.q_proj", "attn_q"), "k": ("self_attn.k_proj", "attn_k"), "v": ("self_attn.v_proj", "attn_v"),
                 "o": ("self_attn.o_proj", "attn_output"), "gate": ("mlp.gate_proj", "ffn_gate"), "up": ("mlp.up_proj", "ffn_up"),
                 "down": ("mlp.down_proj", "ffn_down")}
    for i in range(shape["layers"]):
        for ours, (hf, gguf) in per_block.items():
            yield f"blocks.{i}.{ours}.weight", f"model.layers.{i}.{hf}.weight", f"blk.{i}.{gguf}.weight"


def interleaved(weight, heads):
    """llama-architecture GGUF stores Q and K rows with RoPE pairs side by side."""
    return weight.view(heads, 2, HEAD_DIM // 2, -1).transpose(1, 2).reshape(weight.shape)


class Gguf:
    TYPES = {int: 4, float: 6, bool: 7, str: 8}  # u32, f32, bool, string

    def __init__(self):
        self.fields, self.tensors = [], []

    @staticmethod
    def string(text):
        raw = text.encode()
        return struct.pack("<Q", len(raw)) + raw

    def scalar(self, value):
        if isinstance(value, str):
            return self.string(value)
        return struct.pack({int: "<I", float: "<f", bool: "<?"}[type(value)], value)

    def add(self, key, value, kind=None):
        if isinstance(value, list):
            kind = kind or self.TYPES[type(value[0])]
            body = b"".join(struct.pack("<i", v) if kind == 5 else self.scalar(v) for v in value)
            self.fields.append(self.string(key) + struct.pack("<IIQ", 9, kind, len(value)) + body)
        else:
            self.fields.append(self.string(key) + struct.pack("<I", self.TYPES[type(value)]) + self.scalar(value))

    def write(self, path):
        infos, data, offset = b"", [], 0
        for name, tensor in self.tensors:
            raw = tensor.contiguous().view(torch.uint8 if tensor.dtype == torch.float32 else torch.int16).numpy().tobytes()
            shape = list(reversed(tensor.shape))
            infos += self.string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0 if tensor.dtype == torch.float32 else 30, offset)
            padding = -len(raw) % 32
            data.append(raw + bytes(padding))
            offset += len(raw) + padding
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.fields)) + b"".join(self.fields) + infos
        path.write_bytes(head + bytes(-len(head) % 32) + b"".join(data))


def export(arguments, model, tokenizer, record):
    name, shape, out = arguments.model, SHAPES[arguments.model], arguments.out
    weights = {k: v.detach().to(torch.bfloat16).float().cpu() for k, v in model.state_dict().items()}  # norms too: both formats hold the same
    spec = json.loads(tokenizer.to_str())
    vocabulary = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]

    gguf = Gguf()
    gguf.add("general.architecture", "llama")
    gguf.add("general.name", f"Winnow {name}")
    for key, value in {"context_length": CONTEXT, "embedding_length": shape["hidden"], "block_count": shape["layers"],
                       "feed_forward_length": shape["ffn"], "attention.head_count": shape["heads"], "attention.head_count_kv": shape["kv_heads"],
                       "attention.key_length": HEAD_DIM, "attention.value_length": HEAD_DIM, "rope.dimension_count": HEAD_DIM,
                       "rope.freq_base": ROPE_BASE, "attention.layer_norm_rms_epsilon": NORM_EPS, "vocab_size": VOCAB}.items():
        gguf.add("llama." + key, value)
    gguf.add("tokenizer.ggml.model", "gpt2")
    gguf.add("tokenizer.ggml.pre", "gpt-2")
    gguf.add("tokenizer.ggml.tokens", vocabulary)
    gguf.add("tokenizer.ggml.token_type", [3 if token == END else 1 for token in vocabulary], kind=5)
    gguf.add("tokenizer.ggml.merges", merges)
    gguf.add("tokenizer.ggml.bos_token_id", 0)
    gguf.add("tokenizer.ggml.eos_token_id", 0)
    gguf.add("tokenizer.ggml.add_bos_token", True)
    heads = {"q": shape["heads"], "k": shape["kv_heads"]}
    safetensors = {}
    for ours, hf, theirs in hf_names(shape):
        weight = weights[ours]
        safetensors[hf] = weight.to(torch.bfloat16).contiguous()
        part = ours.split(".")[-2]
        if part in heads:
            weight = interleaved(weight, heads[part])
        gguf.tensors.append((theirs, weight if weight.dim() == 1 else weight.to(torch.bfloat16)))
    out.mkdir(parents=True, exist_ok=True)
    gguf.write(out / f"{name}.gguf")

    from safetensors.torch import save_file
    folder = out / f"{name}-hf"
    folder.mkdir(exist_ok=True)
    save_file(safetensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": shape["hidden"], "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"], "head_dim": HEAD_DIM, "intermediate_size": shape["ffn"],
        "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "rope_theta": ROPE_BASE, "rms_norm_eps": NORM_EPS, "hidden_act": "silu",
        "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16"}, indent=1) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END, "add_bos_token": True, "model_max_length": CONTEXT}) + "\n")
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    if arguments.part_bytes:
        raw = (out / f"{name}.gguf").read_bytes()
        for i in range(0, len(raw), arguments.part_bytes):
            (out / f"{name}.gguf.part{i // arguments.part_bytes:02d}").write_bytes(raw[i:i + arguments.part_bytes])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, required=True, help="folder with " + ", ".join(n + ".txt[.xz]" for n in NAMES))
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--model", choices=SHAPES, default="starter")
    parser.add_argument("--minutes", type=float, required=True, help="training time in all")
    parser.add_argument("--stop-after", type=float, help="minutes of this call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evaluate", type=pathlib.Path, nargs="*", default=[], help="texts to measure bits per byte on, context 512")
    parser.add_argument("--blend", nargs="+", default=[], metavar="STATE SHARE", help="states saved on the way in --work, each with its share of the exported weights")
    parser.add_argument("--part-bytes", type=int, default=0)
    arguments = parser.parse_args()
    if len(arguments.blend) % 2:
        parser.error("--blend takes a share after each state")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prepare(arguments)
    trained = train(arguments, device)
    if trained is None:
        return
    model, tokenizer, heldout, state = trained
    model.load_state_dict(blended(model.state_dict(), arguments.blend, arguments.work))
    limit = 400 if device == "cuda" else 96  # windows
    bpb = {f"held-out {name}": bits_per_byte(model, tokenizer, docs, device, limit=limit) for name, docs in heldout.items()}
    bpb |= {path.name: bits_per_byte(model, tokenizer, documents(path), device, limit=limit) for path in arguments.evaluate}
    samples = [story(model, tokenizer, prompt, device) for prompt in ("Once upon a time", "The little dog", "Lily and Tom went to the park. They")]
    command = f"python3 train.py --text TEXT --work WORK --out OUT --model {arguments.model} --minutes {arguments.minutes:g} --seed {arguments.seed}"
    if arguments.blend:
        command += " --blend " + " ".join(arguments.blend)
    record = {"command": command, "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
              "hardware": torch.cuda.get_device_name() if device == "cuda" else "CPU", "parameters": sum(p.numel() for p in model.parameters()),
              "minutes": state["seconds"] / 60, "steps": state["step"], "tokens": state["tokens"], "bits_per_byte": bpb,
              "curve_columns": ["step", "seconds", "tokens", "loss", "heldout_tinystories_bpb"], "curve": state["curve"], "samples": samples}
    export(arguments, model, tokenizer, record)
    print(json.dumps({k: record[k] for k in ("parameters", "tokens", "bits_per_byte")}, indent=1))
    print("\n---\n".join(samples))


if __name__ == "__main__":
    main()
