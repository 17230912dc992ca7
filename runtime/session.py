"""onnxruntime sessions: which provider really runs, and what onnxruntime complained about."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import MissingDependencyError, ModelError, UsageError
from prunec.compiler.spec import suggest
from prunec.frontends.onnx import save
from prunec.runtime.inputs import Array, Feeds, InputSpec

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ELEMENT_TYPES: Mapping[str, str] = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
LOG_LINE = re.compile(r"\[(?P<severity>[VIWEF]):onnxruntime:[^\]]*\]\s*(?P<text>.*)")
NEWER_OPSET = re.compile(
    r"Opset (?P<model>\d+) is under dev.* domain ai\.onnx is till opset (?P<newest>\d+)"
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A loaded model.

    native: the onnxruntime.InferenceSession. asked, provider: "cpu" or "cuda", what was wanted
    and what runs. fallback: why they differ, or empty. warnings: onnxruntime's at load.
    """

    native: Any
    asked: str
    provider: str
    fallback: str
    warnings: tuple[str, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]

    @property
    def fell_back(self) -> bool:
        """Whether another provider runs than the one asked for."""
        return self.provider != self.asked

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> list[Array]:
        """Outputs (all, in graph order, or those named) for one set of feeds. Raises ModelError."""
        names = list(outputs if outputs is not None else self.outputs)
        with _as_model_error("onnxruntime cannot run the model"):
            return cast("list[Array]", self.native.run(names, feeds))

    def run_bound(self, binding: Any) -> None:
        """Run once over inputs and outputs that are bound already. Raises ModelError."""
        with _as_model_error("onnxruntime cannot run the model"):
            self.native.run_with_iobinding(binding)
            binding.synchronize_outputs()


def import_onnxruntime() -> Any:
    """The onnxruntime module. Raises MissingDependencyError."""
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependencyError(
            f"onnxruntime cannot be imported ({_first_line(error)}); install it with "
            "pip install 'prunec[cpu]' or, for NVIDIA GPUs, pip install 'prunec[gpu]'"
        ) from error
    if not hasattr(module, "InferenceSession"):
        # What stays when one of two distributions in the same folder is uninstalled.
        raise MissingDependencyError(
            "onnxruntime is only half installed; see `prunec doctor`, or reinstall it with "
            "pip install --force-reinstall 'prunec[cpu]' (for NVIDIA GPUs: 'prunec[gpu]')"
        )
    return module


def make_session(
    model: str | Path | bytes | ir.Model,
    *,
    provider: str = "cpu",
    threads: int = 1,
    optimise: bool = True,
    settings: Mapping[str, str] = NO_SETTINGS,
    trace: Path | None = None,
    optimised: Path | None = None,
) -> Session:
    """Load a model into onnxruntime.

    threads: for one operator; 0 lets onnxruntime choose. settings: session configuration entries
    of onnxruntime. trace: how the file begins that onnxruntime's profiler writes. optimised: where
    onnxruntime writes the graph that it really runs, kernels of this machine included. "cuda" where
    CUDA cannot run falls back to the CPU and says so. An ir.Model travels through a temporary
    file: serialised protobuf ends at 2 GB.
    Raises ModelError, MissingDependencyError, UsageError.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}{suggest(provider, PROVIDERS)}")
    if threads < 0:
        raise UsageError(f"--threads must be 0 (onnxruntime chooses) or more, not {threads}")
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 2
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if trace is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(trace)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    if isinstance(model, ir.Model):
        # The loaded session keeps its weights (external ones stay mapped), so the files can go.
        with tempfile.TemporaryDirectory(prefix="prunec-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "model.onnx"
            save(model, path)
            return _load(ort, str(path), "the model", options, provider)
    if isinstance(model, bytes):
        return _load(ort, model, "the model", options, provider)
    path = Path(model)
    if not path.is_file():
        raise ModelError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}")
    return _load(ort, str(path), str(path), options, provider)


def _load(ort: Any, source: str | bytes, label: str, options: Any, asked: str) -> Session:
    present = ort.get_available_providers()
    wanted = [PROVIDERS[asked]] if PROVIDERS[asked] in present else []
    log: list[str] = []
    with _as_model_error(f"{label}: onnxruntime cannot load it"), _captured_log(log):
        if asked == "cuda" and wanted and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # finds CUDA and cuDNN where pip put them; since onnxruntime 1.21
        native = ort.InferenceSession(
            source, options, providers=list(dict.fromkeys([*wanted, PROVIDERS["cpu"]]))
        )
    native.disable_fallback()  # a failing run must fail, not quietly move to another device
    runs = asked if PROVIDERS[asked] in native.get_providers() else "cpu"
    return Session(
        native=native,
        asked=asked,
        provider=runs,
        fallback="" if runs == asked else _why(asked, present),
        warnings=tuple(log),
        inputs=tuple(input_spec(arg) for arg in native.get_inputs()),
        outputs=tuple(arg.name for arg in native.get_outputs()),
    )


def _why(asked: str, present: Sequence[str]) -> str:
    listed = PROVIDERS[asked] in present
    reason = "it could not start" if listed else f"onnxruntime offers {', '.join(present)}"
    return (
        f"provider {asked!r} is not usable here ({reason}); the model runs on the CPU; "
        "see `prunec doctor`"
    )


def input_spec(arg: Any) -> InputSpec:
    """What an input of a loaded model looks like; arg: onnxruntime's description."""
    dtype = ELEMENT_TYPES.get(str(arg.type).removeprefix("tensor(").removesuffix(")"))
    if dtype is None:
        # Strings, sequences and exotic floats can be loaded; only feeding them is refused.
        return InputSpec(arg.name, np.dtype(object), None)
    return InputSpec(arg.name, np.dtype(dtype), tuple(arg.shape))


@contextlib.contextmanager
def _as_model_error(what: str) -> Iterator[None]:
    # The classes of onnxruntime's C++ layer derive from Exception directly: none is narrower.
    try:
        yield
    except Exception as error:
        raise ModelError(f"{what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    newer = NEWER_OPSET.search(text)
    if newer:
        return (
            f"operator set {newer['model']} is newer than this onnxruntime, which runs up to "
            f"{newer['newest']}; install a newer one, or export with an older operator set"
        )
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", text.splitlines()[0]).strip()


@contextlib.contextmanager
def _captured_log(messages: list[str]) -> Iterator[None]:
    """Collect what onnxruntime writes to stdout and file descriptor 2; pass on all else.

    Its C++ layer knows no other sink that Python reaches. The descriptor belongs to the process:
    other threads' lines are held back until the end, not lost.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            with contextlib.redirect_stdout(io.StringIO()) as chatter:
                yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            rest = _split_log(sink.read().decode(errors="replace"), messages)
            messages.extend(line for line in chatter.getvalue().splitlines() if line.strip("* "))
            if rest:
                sys.stderr.write(rest)


def _split_log(text: str, messages: list[str]) -> str:
    """Move onnxruntime's warnings and errors to `messages`; return the lines of others."""
    rest = []
    for line in text.splitlines(keepends=True):
        match = LOG_LINE.search(COLOUR.sub("", line))
        if match is None:
            rest.append(line)
        elif match["severity"] in "WEF" and match["text"].strip() not in messages:
            messages.append(match["text"].strip())
    return "".join(rest)
