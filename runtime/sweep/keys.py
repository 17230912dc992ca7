"""What the results of a point depend on, as one text: equal keys, equal results."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import Limit
from prunec.frontends.digest import weights_digest
from prunec.passes.options import Options
from prunec.passes.pipeline import VERSIONED
from prunec.passes.pose import allowed_levels
from prunec.runtime.compile import Settings, recovery_of
from prunec.runtime.data import DataSpec
from prunec.runtime.latency.attach import HALF_EDGE
from prunec.runtime.metrics import metric_name
from prunec.runtime.subject import Subject

SCHEME = "prunec-sweep-1"


def model_key(
    subject: Subject, options: Options, settings: Settings, record: Mapping[str, Any]
) -> str:
    """Of all points: the model with its weights, how it was coupled, and every option.

    record: where latencies come from, as plans say it.
    Components count by their `repr`: one that shows its address is never found again.
    """
    graph = subject.graph
    return _hash(
        SCHEME,
        {name: importlib.metadata.version(name) for name in VERSIONED},
        subject.digest,
        weights_digest(subject.model),
        sorted(subject.shapes.items()),
        [(edge.name, edge.size) for edge in graph.edges],
        repr(graph.freedom),
        list(subject.extensions.names),
        repr(options),
        dict(record),
        data_key(settings.data) if options.criterion.needs and settings.scores is None else None,
    )


def point_key(model: str, graph: Hypergraph, limits: tuple[Limit, ...]) -> str:
    """Of one decision. Costs count by their values: a profile may have been measured anew."""
    dense = graph.dense()
    probes = [
        (x.resource, x.at_most, cost(dense), cost.without_each(dense))
        for x in limits
        for cost in [graph.costs[x.resource]]
    ]
    return _hash(model, probes)


def accuracy_key(settings: Settings) -> str:
    """Of an accuracy, for the same model and plan."""
    spec = settings.data if settings.eval_data is None else settings.eval_data
    names = [metric_name(source) for source in settings.metrics]
    return _hash("accuracy", data_key(spec), names, settings.provider)


def recovery_key(settings: Settings) -> str:
    """Of the weights of a pruned model, for the same model and plan."""
    found = recovery_of(settings)
    if found is None:
        return "none"
    spec = data_key(settings.data) if found.needs_data else None
    return _hash("recovery", repr(found), spec, settings.provider)


def latency_key(settings: Settings) -> str:
    """Of a latency, for the same model and plan: where and how it was measured."""
    return _hash(
        "latency",
        platform.node(),
        settings.provider,
        settings.threads,
        sorted(settings.shapes.items()),
        _onnxruntime(),
    )


def profile_key(subject: Subject, options: Options, settings: Settings) -> str:
    """Of a latency profile: what was timed, where, at which sizes."""
    return _hash(
        "profile",
        subject.digest,
        sorted(subject.shapes.items()),
        repr(subject.graph.freedom),
        [level.tolist() for level in allowed_levels(subject.graph, options)[0]],
        settings.latency_model == HALF_EDGE,
        settings.batch,
        latency_key(settings),
    )


def data_key(spec: DataSpec | None) -> Any:
    """The data as written, with sizes and times of its files; a function is taken by its name."""
    if spec is None:
        return None
    path = Path(spec.path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.is_file()]
    return [repr(spec), found]


def _onnxruntime() -> str:
    from prunec.runtime.session import import_onnxruntime

    return str(import_onnxruntime().__version__)


def _hash(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
