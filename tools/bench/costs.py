"""Dense costs against the figures that torchvision publishes for its models.

    python tools/bench/costs.py resnet50.onnx mobilenet_v2.onnx densenet121.onnx

The files come from `python ../shared/corpus/make.py OUT resnet50 mobilenet_v2 densenet121 --source
torchvision --full-size --keep-batchnorm`; a file is recognised by the model's name in its own.
Source: torchvision's model pages, `num_params` and `_ops` (GFLOPS) of the IMAGENET1K_V1 weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prunec.runtime.subject import open_model

PUBLISHED = {
    "resnet50": (4.089, 25_557_032),
    "mobilenet_v2": (0.301, 3_504_872),
    "densenet121": (2.834, 7_978_856),
}


def main() -> int:
    """Print a row per model; exit 1 where a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="+")
    wrong = 0
    print(f"{'model':14} {'GMACs':>8} {'published':>10} {'params':>12} {'published':>12}")
    for path in parser.parse_args().model:
        name = next((n for n in PUBLISHED if n in path.name), None)
        if name is None:
            print(f"{path.name}: none of {', '.join(PUBLISHED)}; skipped")
            continue
        graph = open_model(path).graph
        flops, params = (graph.costs[r](graph.dense()) for r in ("flops", "params"))
        giga, published = PUBLISHED[name]
        good = round(flops / 1e9, 3) == giga and params == published
        wrong += not good
        print(
            f"{name:14} {flops / 1e9:8.3f} {giga:10.3f} {params:12d} {published:12d} "
            f"{'PASS' if good else 'FAIL'}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
