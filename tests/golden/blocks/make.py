#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random blocks of every GGUF block type and what the `gguf` package decodes them to.

    pip install gguf && python3 make.py

TYPE.bin: uint32 number of blocks, the blocks, the values as little-endian f32.
"""
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

HERE = pathlib.Path(__file__).parent
# Where the f16 scales of a block lie: random bytes there could be NaN.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "MXFP4": []}


def main():
    random = np.random.default_rng(7)
    for name, places in SCALES.items():
        kind = GGMLQuantizationType[name]
        values, size = GGML_QUANT_SIZES[kind]
        count = 8 if values == 32 else 4
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for row in range(count):
            for place in places:
                scale = np.float16(random.normal() * 0.05)
                if row == 0:
                    scale = np.float16(3e-7)  # subnormal
                blocks[row, place:place + 2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
        if name == "MXFP4":  # a byte of exponent, no f16: the smallest and some around one
            blocks[:, 0] = [0, 1, 2, 100, 126, 127, 128, 150]
        decoded = quants.dequantize(blocks, kind).astype("<f4")
        (HERE / f"{name.lower()}.bin").write_bytes(struct.pack("<I", count) + blocks.tobytes() + decoded.tobytes())


if __name__ == "__main__":
    main()
