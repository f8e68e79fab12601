#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of an evaluation text stands in the training text: the share of its 12-word shingles that occur there.

    python3 overlap.py --text DIR EVALUATION_TEXT...

Words are lower-cased runs of letters and digits. Formulaic stories share some shingles by chance; a copied paragraph shares all.
"""
import argparse
import pathlib
import re

from train import NAMES, documents, find

WORDS = 12


def shingles(text):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [hash(tuple(words[i:i + WORDS])) for i in range(len(words) - WORDS + 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("evaluation", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    wanted = {path: shingles(path.read_text(encoding="utf-8", errors="replace")) for path in arguments.evaluation}
    everything = set().union(*wanted.values())
    found = {name: set() for name in NAMES}
    for name in NAMES:
        for document in documents(find(arguments.text, name)):
            found[name] |= everything.intersection(shingles(document))
    for path, hashes in wanted.items():
        shares = {name: sum(h in found[name] for h in hashes) / len(hashes) for name in NAMES}
        print(f"{path.name}: {len(hashes)} shingles of {WORDS} words; " + ", ".join(f"{name} {100 * share:.3f} %" for name, share in shares.items()))


if __name__ == "__main__":
    main()
