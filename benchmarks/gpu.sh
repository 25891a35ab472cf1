#!/usr/bin/env bash
# Runs the GPU tests and the benchmarks from a bare checkout on a machine with an NVIDIA GPU. It needs no network: it
# uses the Python that it is given (PYTHON, default python3), which must have PyTorch with CUDA, and what else of
# the package's dependencies the chosen parts import (see pyproject.toml).
#
#   benchmarks/gpu.sh [RESULTS_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${1:-benchmarks/gpu-results}
mkdir -p "$results"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" AFFECT_CACHE="${AFFECT_CACHE:-$results/cache}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1

"$python" - <<'PYTHON' || exit 2
import importlib.util, sys
wanted = "torch numpy safetensors pydantic tokenizers transformers typer rich platformdirs pytest hypothesis"
missing = [n for n in wanted.split() if importlib.util.find_spec(n) is None]
if missing:
    sys.exit(f"gpu.sh: this Python lacks {', '.join(missing)}: install them, or give another one as PYTHON")
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh: this PyTorch sees no NVIDIA GPU: give a Python whose PyTorch was built for CUDA as PYTHON")
print(f"gpu.sh: {torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}; TensorRT:",
      "installed" if importlib.util.find_spec("torch_tensorrt") else "not installed")
PYTHON

status=0
"$python" -m pytest tests/gpu -m gpu -p no:cacheprovider -rs 2>&1 | tee "$results/tests.txt" || status=1
"$python" -m benchmarks --only peak,accelerators,throughput --output "$results/RESULTS.md" || status=1
echo "gpu.sh: results are in $results"
exit "$status"
