"""A first run in a process of its own: some kernels end the process instead of failing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from prunec.compiler.walk import nodes
from prunec.frontends.onnx import save
from prunec.runtime.difference import Failed
from prunec.runtime.inputs import Feeds

# onnxruntime checks the inputs of standard operators; some of its own read what isn't there
# (Attention without a bias in 1.31, for one).
STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# Neither this package nor the caller's program is imported: a run costs the start of Python.
CHILD = """
import sys
import numpy, onnxruntime
model, feeds = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 1
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
with numpy.load(feeds) as stored:
    session.run(None, {name: stored[str(k)] for k, name in enumerate(stored["names"].tolist())})
"""
ORDERLY = frozenset({0, 1, 2})  # exit codes of Python: done, an exception, wrong usage


class Dies(Failed):
    """onnxruntime does not survive a model: no run of it may happen in this process."""


def require_survival(model: ir.Model, feeds: Feeds, what: str = "the dense model") -> None:
    """Raise Dies where a run ends the process; an error of any other kind is left to later runs.

    Nothing is run where all operators are standard ones.
    """
    own = {f"{n.domain}::{n.op_type}" for n in nodes(model.graph) if n.domain not in STANDARD}
    if not own or not sys.executable:  # an embedded interpreter can't be started again
        return
    if any(array.dtype.kind == "V" for array in feeds.values()):
        return  # bfloat16 and the like: .npz can't hold them
    with tempfile.TemporaryDirectory(prefix="prunec-", ignore_cleanup_errors=True) as folder:
        path, data = Path(folder) / "model.onnx", Path(folder) / "feeds.npz"
        save(model, path)
        stored = {str(k): array for k, array in enumerate(feeds.values())}
        np.savez(data, allow_pickle=False, names=np.array(list(feeds), dtype=str), **stored)
        command = [sys.executable, "-c", CHILD, str(path), str(data)]
        code = subprocess.run(command, capture_output=True, check=False).returncode
    if code not in ORDERLY:
        raise Dies(
            f"onnxruntime itself dies ({_in_words(code)}) when it runs {what}, which has "
            f"{', '.join(sorted(own))}; nothing could be compared; --no-verify skips this"
        )


def _in_words(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
