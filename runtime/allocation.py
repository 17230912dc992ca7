"""What onnxruntime itself allocates for activations in one run, read from the log of its arena."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prunec.compiler.errors import ModelError
from prunec.runtime.inputs import NO_SHAPES, random_feeds
from prunec.runtime.session import import_onnxruntime, input_spec

EXTENDED = re.compile(r"bfc_arena\.cc.*Extended allocation by (\d+) bytes")
MARK = "prunec-run"
RUNS = 3  # the first plans its memory; the others run on the plan
CHILD = "from prunec.runtime.allocation import _child; _child()"


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bytes that the arena took from the system in one run; weights were there before.

    planned: the one block that holds all activations, placed by lifetime before the run. other:
    outputs, and what kernels take for their own use. Blocks are multiples of 256 bytes.
    """

    planned: int
    other: int

    @property
    def total(self) -> int:
        """Everything that the run took."""
        return self.planned + self.other


def measure_allocation(
    path: str | Path, shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES, *, optimise: bool = True
) -> Allocation:
    """Run a model file on random inputs in a process of its own; read what its arena allocates.

    The arena extends itself by what is asked for and gives everything back after each run, so that
    the extensions of a later run stand in the log: onnxruntime has no other figure that Python can
    read. shapes: of inputs. Raises ModelError, MissingDependencyError.
    """
    import_onnxruntime()
    job = {"path": str(path), "shapes": dict(shapes), "optimise": optimise}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it ended without a message"]
        raise ModelError(f"{path}: onnxruntime cannot run it: {last[0]}")
    return _parsed(done.stderr)


def _parsed(log: str) -> Allocation:
    """From the log of the last run: its largest extension is the plan, the rest is other."""
    last = log.rpartition(f"{MARK} {RUNS - 1}")[2]
    sizes = sorted(int(found[1]) for found in EXTENDED.finditer(last))
    return Allocation(sizes[-1] if sizes else 0, sum(sizes[:-1]))


def _child() -> None:
    """Load and run with everything logged; stdin: the job as JSON."""
    ort = import_onnxruntime()
    job = json.load(sys.stdin)
    ort.set_default_logger_severity(0)
    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    as_asked = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 256}
    ort.create_and_register_allocator(
        ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT), ort.OrtArenaCfg(as_asked)
    )
    options = ort.SessionOptions()
    options.log_severity_level = 0
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    level = ort.GraphOptimizationLevel
    chosen = level.ORT_ENABLE_ALL if job["optimise"] else level.ORT_DISABLE_ALL
    options.graph_optimization_level = chosen
    session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
    specs = [input_spec(arg) for arg in session.get_inputs()]
    shapes = {name: tuple(shape) for name, shape in job["shapes"].items()}
    feeds = random_feeds(specs, shapes=shapes)
    settings = ort.RunOptions()
    settings.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    for run in range(RUNS):
        print(MARK, run, file=sys.stderr, flush=True)
        session.run(None, feeds, settings)
