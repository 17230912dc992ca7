"""prunec: make trained ONNX networks smaller and faster, and prove it.

>>> import prunec
>>> prunec.__version__.count(".")
2
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from prunec._version import __version__

if TYPE_CHECKING:
    from prunec.api import (
        apply,
        evaluate,
        inspect,
        load,
        plan,
        plot,
        profile,
        prune,
        quantise,
        scores,
        sweep,
        verify,
    )
    from prunec.compiler.coverage import Coverage, coverage
    from prunec.compiler.diagnostics import Diagnostic
    from prunec.compiler.errors import PrunecError
    from prunec.compiler.hypergraph import Hyperedge, Hypergraph
    from prunec.compiler.plan import Plan
    from prunec.compiler.reasons import Reason
    from prunec.frontends.onnx import save
    from prunec.frontends.torch import from_torch
    from prunec.passes.grouping import Grouping
    from prunec.passes.options import Options, Override
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.compile import Settings
    from prunec.runtime.data import DataSpec
    from prunec.runtime.report import Report, Result
    from prunec.runtime.scores import Scores
    from prunec.runtime.sweep.points import Sweep
    from prunec.runtime.sweep.stages import SweepSettings
    from prunec.runtime.sweep.workers import Workers
    from prunec.runtime.torch_view import TorchView
    from prunec.runtime.training.aware import Aware
    from prunec.runtime.training.settings import Recipe, TrainSettings
    from prunec.runtime.verify import Verification
    from prunec.training import apply_to, finetune, torch_view, train

# Loaded on first use: `import prunec` and `prunec --help` start without numpy.
_HOME = {
    "Accuracy": "prunec.runtime.accuracy",
    "Aware": "prunec.runtime.training.aware",
    "Coverage": "prunec.compiler.coverage",
    "DataSpec": "prunec.runtime.data",
    "Diagnostic": "prunec.compiler.diagnostics",
    "Grouping": "prunec.passes.grouping",
    "Hyperedge": "prunec.compiler.hypergraph",
    "Hypergraph": "prunec.compiler.hypergraph",
    "Options": "prunec.passes.options",
    "Override": "prunec.passes.options",
    "Plan": "prunec.compiler.plan",
    "PrunecError": "prunec.compiler.errors",
    "Reason": "prunec.compiler.reasons",
    "Recipe": "prunec.runtime.training.settings",
    "Report": "prunec.runtime.report",
    "Result": "prunec.runtime.report",
    "Scores": "prunec.runtime.scores",
    "Settings": "prunec.runtime.compile",
    "Sweep": "prunec.runtime.sweep.points",
    "SweepSettings": "prunec.runtime.sweep.stages",
    "TorchView": "prunec.runtime.torch_view",
    "TrainSettings": "prunec.runtime.training.settings",
    "Verification": "prunec.runtime.verify",
    "Workers": "prunec.runtime.sweep.workers",
    "apply": "prunec.api",
    "apply_to": "prunec.training",
    "coverage": "prunec.compiler.coverage",
    "evaluate": "prunec.api",
    "finetune": "prunec.training",
    "from_torch": "prunec.frontends.torch",
    "inspect": "prunec.api",
    "load": "prunec.api",
    "plan": "prunec.api",
    "plot": "prunec.api",
    "profile": "prunec.api",
    "prune": "prunec.api",
    "quantise": "prunec.api",
    "save": "prunec.frontends.onnx",
    "scores": "prunec.api",
    "sweep": "prunec.api",
    "torch_view": "prunec.training",
    "train": "prunec.training",
    "verify": "prunec.api",
}

__all__ = [
    "Accuracy",
    "Aware",
    "Coverage",
    "DataSpec",
    "Diagnostic",
    "Grouping",
    "Hyperedge",
    "Hypergraph",
    "Options",
    "Override",
    "Plan",
    "PrunecError",
    "Reason",
    "Recipe",
    "Report",
    "Result",
    "Scores",
    "Settings",
    "Sweep",
    "SweepSettings",
    "TorchView",
    "TrainSettings",
    "Verification",
    "Workers",
    "__version__",
    "apply",
    "apply_to",
    "coverage",
    "evaluate",
    "finetune",
    "from_torch",
    "inspect",
    "load",
    "plan",
    "plot",
    "profile",
    "prune",
    "quantise",
    "save",
    "scores",
    "sweep",
    "torch_view",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'prunec' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
