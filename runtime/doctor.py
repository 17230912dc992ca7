"""What is installed, what works, and how to mend what does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import PrunecError, first_line
from prunec.runtime.session import PROVIDERS, import_onnxruntime, make_session

# Distributions that install the same folder `onnxruntime`, each over the other.
RUNTIMES: Mapping[str, str] = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu"}
OLDEST_PYTHON = (3, 11)


class Level(Enum):
    """How a finding is meant."""

    OK = "ok"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the installation. remedy: what to type, or empty."""

    level: Level
    topic: str
    message: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self) | {"level": self.level.value}


def diagnose() -> tuple[Finding, ...]:
    """Findings on Python, packages, solvers, onnxruntime and its providers, torch and the cores."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _core_packages,
        _cbc,
        _highs,
        _onnxruntime_packages,
        _onnxruntime_works,
        _optional_packages,
        _cores,
    )
    return tuple(finding for check in checks for finding in check())


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Finding(Level.ERROR, "python", version, f"install Python {wanted} or newer")
    else:
        yield Finding(Level.OK, "python", f"{version} ({sys.executable})")


def _core_packages() -> Iterator[Finding]:
    for package, module in (
        ("numpy", "numpy"),
        ("networkx", "networkx"),
        ("onnx", "onnx"),
        ("onnx-ir", "onnx_ir"),
        ("pulp", "pulp"),
    ):
        yield _importable(package, module, Level.ERROR, f"pip install --force-reinstall {package}")


def _importable(package: str, module: str, missing: Level, remedy: str) -> Finding:
    version = _version(package)
    if version is None:
        return Finding(missing, package, "not installed", remedy)
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken package can raise anything at import
        text = f"{version} is installed but cannot be imported: {error}".splitlines()[0]
        return Finding(Level.ERROR, package, text, f"pip install --force-reinstall {package}")
    return Finding(Level.OK, package, version)


def _cbc() -> Iterator[Finding]:
    if _version("pulp") is not None:
        yield _solves("cbc", "PULP_CBC_CMD", "the CBC that pulp bundles", Level.ERROR)


def _highs() -> Iterator[Finding]:
    version = _version("highspy")
    if version is None:
        yield Finding(
            Level.WARN,
            "highs",
            "not installed; the milp solver uses CBC, which is slower on large models",
            "pip install 'prunec[highs]'",
        )
        return
    yield _solves("highs", "HiGHS", f"highspy {version}", Level.WARN)


def _test_problem(pulp: Any, solver: str) -> float | None:
    """``max x + y`` with ``2x + 3y <= 12`` and ``x, y <= 4`` in integers: 5."""
    problem = pulp.LpProblem("doctor", pulp.LpMaximize)
    x, y = (problem.add_variable(name, 0, 4, cat=pulp.LpInteger) for name in "xy")
    problem += x + y
    problem += 2 * x + 3 * y <= 12
    problem.solve(getattr(pulp, solver)(msg=False))
    value: float | None = pulp.value(problem.objective)
    return value


def _solves(topic: str, solver: str, what: str, failing: Level) -> Finding:
    """Solve a problem with it: finding a program is not enough."""
    remedy = "pip install --force-reinstall " + ("highspy" if topic == "highs" else "pulp")
    try:
        with warnings.catch_warnings():
            # PuLP 3.3 announces the names of 4.0; setup.cfg asks for 3.x.
            warnings.simplefilter("ignore", DeprecationWarning)
            value = _test_problem(importlib.import_module("pulp"), solver)
    except Exception as error:  # pulp passes on whatever a back end throws
        return Finding(failing, topic, f"{what} does not run: {first_line(error)}", remedy)
    if value is None or abs(value - 5) > 1e-6:
        return Finding(failing, topic, f"{what} gives a wrong answer ({value}, not 5)", remedy)
    return Finding(Level.OK, topic, f"{what} solves a test problem")


def _onnxruntime_packages() -> Iterator[Finding]:
    found = {name: version for name in RUNTIMES if (version := _version(name)) is not None}
    names = " and ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        for extra in ("gpu", "cpu"):
            keep = next(name for name, wanted in RUNTIMES.items() if wanted == extra)
            yield Finding(
                Level.ERROR,
                "onnxruntime",
                f"{names} are both installed into one folder and break each other; to keep {keep}:",
                f"pip uninstall -y {' '.join(RUNTIMES)} && pip install 'prunec[{extra}]'",
            )
    elif found:
        yield Finding(Level.OK, "onnxruntime", names)
    else:
        yield Finding(
            Level.WARN,
            "onnxruntime",
            "not installed; --data, verify and bench need it",
            "pip install 'prunec[cpu]' or, for NVIDIA GPUs, pip install 'prunec[gpu]'",
        )


def _onnxruntime_works() -> Iterator[Finding]:
    if not any(map(_version, RUNTIMES)):
        return
    extra = "gpu" if _version("onnxruntime-gpu") else "cpu"
    remedy = f"pip uninstall -y {' '.join(RUNTIMES)} && pip install 'prunec[{extra}]'"
    try:
        present = import_onnxruntime().get_available_providers()
        make_session(_tiny_model()).run({"x": np.ones((1, 4), np.float32)})
    except PrunecError as error:
        yield Finding(Level.ERROR, "onnxruntime", str(error), remedy)
        return
    yield Finding(Level.OK, "providers", ", ".join(present))
    yield _cuda(present, extra)


def _cuda(present: list[str], extra: str) -> Finding:
    if PROVIDERS["cuda"] not in present:
        if extra == "gpu":
            message = "onnxruntime-gpu is installed but offers no CUDA provider"
            remedy = f"pip uninstall -y {' '.join(RUNTIMES)} && pip install 'prunec[gpu]'"
            return Finding(Level.ERROR, "cuda", message, remedy)
        return Finding(
            Level.OK, "cuda", "not part of this onnxruntime; --provider cuda is not usable"
        )
    try:
        session = make_session(_tiny_model(), provider="cuda")
        session.run({"x": np.ones((1, 4), np.float32)})
    except PrunecError as error:
        return Finding(Level.WARN, "cuda", str(error), "check the driver with nvidia-smi")
    if session.fell_back:
        why = session.warnings[0] if session.warnings else session.fallback
        return Finding(
            Level.WARN,
            "cuda",
            f"the CUDA provider cannot start: {why}",
            "check the driver with nvidia-smi; pip install 'onnxruntime-gpu[cuda,cudnn]'",
        )
    return Finding(Level.OK, "cuda", "the CUDA provider runs a test model")


def _tiny_model() -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([1, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    y = ir.Value(name="y", shape=ir.Shape([1, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Relu", [x], outputs=[y], name="relu")
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 17}, name="doctor")
    return ir.Model(graph, ir_version=9)


def _optional_packages() -> Iterator[Finding]:
    for package, module, extra, purpose in (
        ("pillow", "PIL", "images", "folders of images"),
        ("torch", "torch", "torch", "torch modules as input"),
        ("accelerate", "accelerate", "train", "fine-tuning and gates"),
        ("onnx-graphsurgeon", "onnx_graphsurgeon", "graphsurgeon", "gs.Graph as input"),
        ("joblib", "joblib", "sweep", "sweeps with several jobs"),
        ("matplotlib", "matplotlib", "sweep", "plots of sweeps"),
        ("distributed", "distributed", "dask", "sweeps on a Dask cluster"),
    ):
        if _version(package) is None:
            message = f"not installed; needed for {purpose}"
            yield Finding(Level.OK, package, message, f"pip install 'prunec[{extra}]'")
        else:
            yield _importable(package, module, Level.WARN, "")


def _cores() -> Iterator[Finding]:
    machine = os.cpu_count() or 1
    usable = machine
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    limited = "" if usable == machine else f" of {machine}; --threads above {usable} slows down"
    yield Finding(Level.OK, "cores", f"{usable} usable{limited}")
