"""The structures of real networks beside onnxsim and Torch-Pruning, on the same files.

    python tools/bench/peers.py [--python PATH] [--match REGEX] [--seconds 120] [--table out.md]

Each network of architectures.py is exported with random weights and norms. prunec, with its
defaults and alignment 1: the smallest reachable MACs and those left at flops=0.5, as a share of
dense, and the oracle on the written file. onnxsim: apply_structured_pruning(sparsity=0.5), the
best of four that runs: with apply_attention_head_pruning behind it or without, with simplify
before it or without; what helped is named. Torch-Pruning: BasePruner with group L2 magnitude and
pruning_ratio=0.5, unrounded, the output layer ignored, attention heads told where there are any
("hints"), exported again. prunec counts the MACs of all files.

PATH: an interpreter with torch, torchvision, onnx, and onnxsim and torch-pruning where installed.
Every step runs in a process of its own under a time limit. Exits with 1 when the smallest share
is not below 0.5 or the oracle does not pass.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import Row, check_apart
from verdict import markdown

BAR = 0.5
PEERS = {"onnxsim": "onnxsim", "torch_pruning": "torch-pruning"}
ERROR_LENGTH = 60
NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """One architecture. onnxsim, torch_pruning: share of the MACs left, and in words what else."""

    name: str
    exporter: str
    macs: int
    prunec: Row
    onnxsim: str
    torch_pruning: str

    @property
    def passed(self) -> bool:
        """Whether prunec can go below the bar and its oracle passes."""
        smallest = self.prunec.smallest
        return smallest is not None and smallest < BAR and self.prunec.result == "passed"


def job_list(_: list[str]) -> dict[str, Any]:
    """Names of the architectures, versions of what is installed."""
    from architectures import ARCHITECTURES

    wanted = ("torch", "torchvision", *PEERS.values())
    versions = {}
    for name in wanted:
        if importlib.util.find_spec(name.replace("-", "_")) is not None:
            versions[name] = importlib.metadata.version(name)
    return {"names": list(ARCHITECTURES), "versions": versions}


def job_export(arguments: list[str]) -> dict[str, Any]:
    """Write the dense network. Arguments: architecture, file."""
    name, target = arguments
    net, architecture, inputs = _network(name)
    return {"exporter": _export(net, architecture, inputs, target)}


def job_onnxsim(arguments: list[str]) -> dict[str, Any]:
    """Write what onnxsim makes of a file. Arguments: file, target, and "simplify" or "plain"."""
    source, target, first = arguments
    onnx: Any = importlib.import_module("onnx")
    onnxsim: Any = importlib.import_module("onnxsim")
    model = onnx.load(source)
    if first == "simplify":
        model = onnxsim.simplify(model)[0]
    for step in ("apply_structured_pruning", "apply_attention_head_pruning"):
        model = getattr(onnxsim, step)(model, sparsity=0.5)
        onnx.save(model, f"{target}.{step.split('_')[1]}.onnx")
    return {}


def job_torch_pruning(arguments: list[str]) -> dict[str, Any]:
    """Write what Torch-Pruning makes of a network. Arguments: architecture, file."""
    name, target = arguments
    tp: Any = importlib.import_module("torch_pruning")
    net, architecture, inputs = _network(name)
    before = net(*inputs).shape
    hints = architecture.hints(net)
    tp.pruner.BasePruner(
        net,
        inputs[0],
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[net.get_submodule(architecture.last)],
        **hints,
    ).step()
    after = net(*inputs).shape
    if after != before:
        raise ValueError(f"the output became {tuple(after)}")
    _export(net, architecture, inputs, target)
    return {"hints": bool(hints)}


def job_count(paths: list[str]) -> dict[str, Any]:
    """MACs of each file, counted by prunec, and whether onnxruntime loads and runs it."""
    from prunec.compiler.errors import PrunecError
    from prunec.runtime.inputs import random_feeds
    from prunec.runtime.session import make_session
    from prunec.runtime.subject import open_model

    counted: dict[str, Any] = {}
    for path in map(Path, paths):
        entry: dict[str, Any] = {"macs": None, "error": ""}
        try:
            graph = open_model(path).graph
            entry["macs"] = graph.costs["flops"](graph.dense())
            session = make_session(path, optimise=False)
            session.run(random_feeds(session.inputs, 0))
        except PrunecError as error:
            entry["error"] = str(error)
        counted[str(path)] = entry
    return counted


JOBS: Mapping[str, Callable[[list[str]], dict[str, Any]]] = {
    "list": job_list,
    "export": job_export,
    "onnxsim": job_onnxsim,
    "torch_pruning": job_torch_pruning,
    "count": job_count,
}


def _network(name: str) -> tuple[Any, Any, Any]:
    """Module with the weights of seed 0, its architecture, its inputs."""
    import torch
    from architectures import ARCHITECTURES

    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    net = architecture.build().eval()
    # Exporters store equal tensors once, such as the zero biases before any training, and onnxsim
    # cuts such an initializer for one of its users only: files that no trained network gives.
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max():
            tensor.data += NOISE * torch.randn_like(tensor)
    return net, architecture, architecture.inputs()


def _export(net: Any, architecture: Any, inputs: Any, target: str) -> str:
    """Write the module, by the older exporter where that can; returns which one it was."""
    import torch

    options: dict[str, Any] = {}
    if architecture.keep_batchnorm:
        options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    if architecture.script:
        net = torch.jit.script(net)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(net, inputs, target, dynamo=False, **options)
        except Exception:  # whatever the older exporter cannot do, the newer one may
            if options or architecture.script:
                raise
            torch.onnx.export(net, inputs, target, dynamo=True, external_data=False, verbose=False)
            return "dynamo"
    return "legacy"


class JobError(Exception):
    """A worker gave no answer; the text says why in a few words."""


def ask(python: str, job: str, arguments: list[str], seconds: float) -> dict[str, Any]:
    """Answer of a worker process. Raises JobError."""
    command = [python, __file__, "--job", job, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise JobError(f"no answer in {seconds:g} s") from None
    if done.returncode < 0:
        raise JobError(f"killed by signal {-done.returncode}")
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise JobError(f"exit {done.returncode}, no answer") from None
    if "failed" in answer:
        raise JobError(answer["failed"])
    return answer


def work(job: str, arguments: list[str]) -> int:
    """The worker's side: one line of JSON, last on stdout."""
    try:
        answer = JOBS[job](arguments)
    except Exception as error:  # peers fail in any way; the caller shows it
        lines = str(error).strip().splitlines()
        said = lines[0] if lines else traceback.extract_tb(error.__traceback__)[-1].line
        answer = {"failed": f"{type(error).__name__}: {said}"}
    print(json.dumps(answer))
    return 0


@contextmanager
def noted(errors: list[str]) -> Iterator[None]:
    """Keep the text of a JobError and go on."""
    try:
        yield
    except JobError as error:
        text = str(error).replace("|", "/")
        errors.append(text if len(text) <= ERROR_LENGTH else f"{text[:ERROR_LENGTH]}...")


def cell(left: list[tuple[float, str, str]], errors: list[str]) -> str:
    """What a peer's cell says. left: share of the MACs, label, error; the best that runs wins."""
    running = [entry for entry in left if not entry[2]]
    if running:
        share, label, _ = min(running, key=lambda entry: entry[0])
        return f"{share:.3f}" + (f" ({label})" if label else "")
    if left:
        return f"{min(left)[0]:.3f}, does not run"
    return f"failed: {errors[0]}" if errors else "no file"


def counted(folder: Path, dense: int, labels: Mapping[str, str], seconds: float) -> Any:
    """Share of the MACs, label and error of the files of `folder` that `labels` names."""
    files = {str(folder / name): label for name, label in labels.items()}
    there = [path for path in files if Path(path).is_file()]
    answer = ask(sys.executable, "count", there, seconds) if there else {}
    left, errors = [], []
    for path, entry in answer.items():
        if entry["macs"] is None:
            errors.append(entry["error"])
        else:
            left.append((entry["macs"] / dense, files[path], entry["error"]))
    return left, errors


ONNXSIM_LABELS = {
    "plain.structured.onnx": "",
    "plain.attention.onnx": "heads",
    "simplify.structured.onnx": "simplify",
    "simplify.attention.onnx": "simplify, heads",
}


def with_onnxsim(model: Path, dense: int, a: argparse.Namespace) -> str:
    """The cell of onnxsim."""
    errors: list[str] = []
    left: list[tuple[float, str, str]] = []
    for first in ("plain", "simplify"):
        with noted(errors):
            target = str(model.parent / first)
            ask(a.python, "onnxsim", [str(model), target, first], a.seconds)
    with noted(errors):
        left, more = counted(model.parent, dense, ONNXSIM_LABELS, a.seconds)
        errors += more
    return cell(left, errors)


def with_torch_pruning(name: str, folder: Path, dense: int, a: argparse.Namespace) -> str:
    """The cell of Torch-Pruning."""
    errors: list[str] = []
    left: list[tuple[float, str, str]] = []
    with noted(errors):
        made = ask(a.python, "torch_pruning", [name, str(folder / "tp.onnx")], a.seconds)
        label = "hints" if made["hints"] else ""
        left, more = counted(folder, dense, {"tp.onnx": label}, a.seconds)
        errors += more
    return cell(left, errors)


def measure(name: str, versions: Mapping[str, str], a: argparse.Namespace) -> Result:
    """All tools on one architecture. Raises JobError if there is no dense file to start from."""
    with tempfile.TemporaryDirectory(prefix="prunec-") as text:
        model = Path(text) / "dense.onnx"
        exporter = ask(a.python, "export", [name, str(model)], a.seconds)["exporter"]
        dense = ask(sys.executable, "count", [str(model)], a.seconds)[str(model)]["macs"]
        limits = {"seconds": a.seconds, "gigabytes": a.gigabytes}
        plain = argparse.Namespace(budget=f"flops={BAR}", residual=False, heads=False, **limits)
        cells = dict.fromkeys(PEERS, "-")
        if "onnxsim" in versions:
            cells["onnxsim"] = with_onnxsim(model, dense, a)
        if "torch-pruning" in versions:
            cells["torch_pruning"] = with_torch_pruning(name, model.parent, dense, a)
        return Result(name, exporter, dense, check_apart(model, plain), **cells)


def cells(r: Result) -> tuple[str, ...]:
    """A row of the table."""
    smallest, reached = r.prunec.smallest, r.prunec.reached
    return (
        r.name,
        r.exporter,
        f"{r.macs / 1e6:.2f}",
        "-" if smallest is None else f"{smallest:.2g}",
        "-" if reached is None else f"{reached:.4f}",
        r.prunec.result + (", exact" if r.prunec.exact else ""),
        f"{r.prunec.seconds:.1f}",
        r.onnxsim,
        r.torch_pruning,
    )


def columns(versions: Mapping[str, str]) -> tuple[str, ...]:
    """Header of the table."""
    peers = [f"{name} {versions.get(name, '(absent)')}" for name in PEERS.values()]
    ours = ("prunec: smallest", "at flops=0.5", "oracle", "s")
    return ("architecture", "exporter", "dense MMACs", *ours, *peers)


def main() -> int:
    """Measure every architecture, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--match", default="", help="only architectures whose name it matches")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=120, help="per step")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of private memory, prunec")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    parser.add_argument("--job", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.job:
        return work(a.job[0], a.job[1:])
    try:
        known = ask(a.python, "list", [], a.seconds)
    except JobError as error:
        print(f"SKIPPED: {a.python} cannot export ({error}); give one with --python")
        return 0
    versions = known["versions"]
    for name in PEERS.values():
        if name not in versions:
            print(f"SKIPPED {name}: not installed for {a.python}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    header, rows, failed = columns(versions), [], []
    print("  ".join(header))
    names = [n for n in known["names"] if re.search(a.match, n)]
    with ThreadPoolExecutor(a.jobs) as pool:
        waiting = {name: pool.submit(measure, name, versions, a) for name in names}
        for name, answer in waiting.items():
            try:
                result = answer.result()
            except JobError as error:
                failed.append(name)
                print(f"{name}  {error}", flush=True)
                continue
            rows.append(cells(result))
            print("  ".join(rows[-1]), flush=True)
            if not result.passed:
                failed.append(name)
                print(f"    {result.prunec.detail}", flush=True)
    if a.table:
        a.table.write_text(markdown(header, rows))
    print(f"FAIL: {', '.join(failed)}" if failed or not rows else "PASS")
    return int(bool(failed) or not rows)


if __name__ == "__main__":
    sys.exit(main())
