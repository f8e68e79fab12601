#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the starter model looks: the sink on its first token, its heavy hitters, and a picture of both.

    pip install torch transformers tokenizers matplotlib
    python3 attention.py FOLDER-OF-SAFETENSORS TEXT --picture attention.png

Printed for each layer: the attention that queries beyond the 16th give to the first token, and the share of the rest that the
heaviest tenth of the other tokens draws (a tenth where all were alike), both as means over heads; and the strongest head.
"""
import argparse
import pathlib

import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--picture", type=pathlib.Path)
    arguments = parser.parse_args()
    words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(arguments.model / "tokenizer.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, attn_implementation="eager", dtype=torch.float32).eval()
    ids = torch.tensor([words(arguments.text.read_text(encoding="utf-8")).input_ids[:arguments.tokens]])
    with torch.no_grad():
        maps = torch.stack(model(ids, output_attentions=True).attentions)[:, 0]  # [layers, heads, queries, keys]
    sink = maps[:, :, 16:, 0].mean(-1)
    # Later tokens are seen by fewer queries: mass is per query that could look.
    seen = torch.arange(ids.shape[1], 0, -1).float()
    mass = (maps.sum(2) / seen)[:, :, 1:-16]  # the last ones are seen too rarely to say
    heavy = mass.sort(-1, descending=True).values[..., : mass.shape[-1] // 10].sum(-1) / mass.sum(-1)
    for layer in range(maps.shape[0]):
        print(f"layer {layer}: sink {sink[layer].mean():.2f} (strongest head {sink[layer].max():.2f}), heaviest tenth {heavy[layer].mean():.2f} "
              f"(strongest head {heavy[layer].max():.2f})")
    print(f"all: sink {sink.mean():.2f}, heaviest tenth {heavy.mean():.2f}")
    if arguments.picture:
        draw(maps, sink, arguments.picture)


def draw(maps, sink, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    shown = min(64, maps.shape[-1])  # tokens, so that one is wide enough to see
    layer, head = divmod(int((sink - 0.5).abs().argmin()), sink.shape[1])  # a head that rests about half of its attention
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.25))
    left.imshow(maps[layer, head, :shown, :shown].sqrt(), cmap="cividis", vmin=0, vmax=1)
    left.set(title=f"Layer {layer}, head {head}: square root of attention", xlabel="token looked at", ylabel="token that looks")
    drawn = maps.mean(1).sum(1).div(torch.arange(maps.shape[-1], 0, -1))[:, :shown]
    picture = right.imshow(drawn.sqrt(), aspect="auto", cmap="cividis", vmin=0)
    right.set(title="Square root of mean attention drawn by each token", xlabel="token", ylabel="layer")
    figure.colorbar(picture, ax=right)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
