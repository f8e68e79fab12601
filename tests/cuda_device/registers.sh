#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Registers, shared memory and spills of every kernel, as ptxas reports them: registers.sh [NVCC] > tests/cuda_device/registers.txt
# The table is kept in the repository, so that a change shows in review. Ends with 1 if any kernel spills, 77 without nvcc.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
nvcc=${1:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ -x "$nvcc" ] || { echo "no nvcc" >&2; exit 77; }
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

# One line of "arch registers shared_bytes stack_bytes spilled_bytes kernel" for each entry function of a file.
usage() {
  "$nvcc" -std=c++20 --fmad=false -O3 -I"$root" -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -Xptxas -v \
    -c "$1" -o "$objects/object.o" 2>&1 | c++filt | awk '
      /Compiling entry function/ { split($0, part, "\x27"); name = part[2]; arch = part[4] }
      /stack frame/ && name != "" { stack = $1; spilled = $5 + $9 }
      /Used [0-9]+ registers/ && name != "" {
        match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
        shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH - 11) : 0
        sub(/^void /, "", name); gsub(/winnow::cuda::|winnow::cpu::|winnow::/, "", name)
        gsub(/\((Storage|ActivationMode|Source::Kind|Coding|ChannelKind)\)/, "", name); sub(/\(.*/, "", name)
        printf "%-6s %9d %12d %11d %13d %s\n", arch, registers, shared, stack, spilled, name
        name = ""
      }'
}

echo "# $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\), V\([0-9.]*\)/nvcc \2/p'); storage 0 f32, 1 f16, 2 bf16; activations 0 f32, 1 f16, 3 int8; coding as in coding.h, channels as in sparse.cuh"
printf '%-6s %9s %12s %11s %13s %s\n' arch registers shared_bytes stack_bytes spilled_bytes kernel
files=$(grep -l '#include "engine/cuda/.*\.cuh"' "$root"/engine/cuda/*.cu)  # the others have no kernels
table=$(for file in $files; do usage "$file"; done | LC_ALL=C sort -u -k6 -k1,1)
echo "$table"
spilling=$(echo "$table" | awk '$5 > 0' | wc -l)
[ "$spilling" -eq 0 ] || { echo "$spilling kernels spill" >&2; exit 1; }
