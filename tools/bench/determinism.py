"""Figure 5: the same inputs in two processes give byte-identical plans and models.

    python tools/bench/determinism.py MODEL [--budget flops=0.5] [-- PRUNEC-OPTION...]

The processes differ in PYTHONHASHSEED; a third one runs `prunec apply` on the plan of the first.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pinned import pinned


def main() -> int:
    """Run three times and compare every file that was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--budget", default="flops=0.5")
    parser.add_argument("options", nargs="*", metavar="PRUNEC-OPTION")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folders = {name: Path(text) / name for name in ("seed 0", "seed 1", "apply")}
        for seed, name in enumerate(("seed 0", "seed 1")):
            job = [str(a.model), "--budget", a.budget, *a.options]
            run(job, folders[name], {"PYTHONHASHSEED": str(seed)})
        plan = folders["seed 0"] / "out.plan.json"
        run(["apply", str(a.model), str(plan)], folders["apply"], {"PYTHONHASHSEED": "2"})
        found = {name: digests(folder) for name, folder in folders.items()}
    for name, files in found.items():
        for file, digest in files.items():
            print(f"{name:8} {file:20} {digest[:32]}")
    models = {k: d for k, d in found["seed 0"].items() if not k.endswith(".plan.json")}
    applied = {k: d for k, d in found["apply"].items() if not k.endswith(".plan.json")}
    same = len(found["seed 0"]) >= 2 and found["seed 0"] == found["seed 1"] and models == applied
    print("PASS" if same else "FAIL")
    return int(not same)


def run(command: Sequence[str], folder: Path, variables: dict[str, str]) -> None:
    """Run prunec with its output in a folder of its own."""
    folder.mkdir()
    output = ["--output", str(folder / "out.onnx")]
    pinned([sys.executable, "-m", "prunec", *command, *output], variables)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


if __name__ == "__main__":
    sys.exit(main())
