"""The plan: what is kept, why, and what it costs. The only thing between deciding and rewriting."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import PlanError
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.partition import REMOVED, Partition
from prunec.compiler.ranges import positions, ranges

SCHEMA = 1
FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "schema": int,
    "graph_sha256": str,
    "hyperedges": dict,
    "weights": dict,
    "costs": dict,
    "budget": dict,
    "objective": (int, float),
    "bound": (int, float, type(None)),
    "gap": (int, float, type(None)),
    "components": dict,
    "options": dict,
    "versions": dict,
}
MOST_CHANNELS = 1 << 24  # of an axis: what a plan claims beyond is not even held in memory
OPTIONAL: Mapping[str, type | tuple[type, ...]] = {"prices": dict, "groups": dict, "bits": dict}


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept positions of a hyperedge of `size` channel groups, ascending."""

    size: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision with its provenance.

    hyperedges: name -> kept positions. weights: value name -> axis -> kept indices, for every
    sliced axis of every stored tensor. costs: resource -> (dense, pruned), base units. budget:
    resource -> limit in base units. components: role -> re-runnable specification. prices: limited
    resource -> objective that one more percent of its dense cost would buy. groups: weight of a
    convolution that becomes a grouped one -> its blocks, over the dense axes. bits: stored tensor
    -> bits of its elements once it is quantised.
    """

    graph_sha256: str
    hyperedges: Mapping[str, Kept]
    weights: Mapping[str, Mapping[int, tuple[int, ...]]]
    costs: Mapping[str, tuple[int, int]]
    budget: Mapping[str, int]
    objective: float
    bound: float | None
    gap: float | None
    components: Mapping[str, str]
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    prices: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, Partition] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)

    @property
    def freedom(self) -> Freedom:
        """What coupling was allowed when the plan was made."""
        return Freedom(**{f.name: bool(self.options.get(f.name)) for f in fields(Freedom)})

    @property
    def slow_joins(self) -> tuple[str, ...]:
        """Decoupled additions that cost more time than they save, by estimate."""
        names = self.options.get("slow_joins", ())
        return tuple(map(str, names)) if isinstance(names, list) else ()

    @property
    def rules(self) -> tuple[str, ...]:
        """The modules of rules that the plan was made with."""
        names = self.options.get("rules", ())
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def counts(self, graph: Hypergraph) -> tuple[int, ...]:
        """Kept counts in the order of the hypergraph's edges."""
        return tuple(len(self.hyperedges[e.name].positions) for e in graph.edges)

    def mask(self, graph: Hypergraph) -> NDArray[np.bool_]:
        """(number_of_groups + 1,) True = kept; the last entry serves index KEPT.

        Raises PlanError when the plan's hyperedges are not those of the graph.
        """
        expected = {e.name: e.size for e in graph.edges}
        given = {name: kept.size for name, kept in self.hyperedges.items()}
        if expected != given:
            odd = sorted(expected.items() ^ given.items())[0][0]
            raise PlanError(
                f"$.hyperedges[{odd!r}]: the model's hyperedge has size "
                f"{expected.get(odd, 'none')}, the plan's {given.get(odd, 'none')}; "
                "the plan was made for another model"
            )
        mask = np.zeros(graph.number_of_groups + 1, bool)
        mask[KEPT] = True
        for edge in graph.edges:
            mask[edge.first + np.array(self.hyperedges[edge.name].positions, np.int64)] = True
        return mask

    def apply_to(self, module: Any, example_inputs: Any = None, **options: Any) -> Any:
        """A torch.nn.Module sliced by this plan: `prunec.apply_to`, which names the options."""
        # By name, as the compiler imports nothing above itself: a short way for callers, who have
        # all of prunec, and nothing that this package builds on.
        return importlib.import_module("prunec.training").apply_to(
            self, module, example_inputs, **options
        )

    def to_json(self) -> str:
        """Text with sorted keys and one hyperedge or weight a line; ends with a newline."""
        edges = {
            name: {"size": k.size, "kept": ranges(k.positions), "count": len(k.positions)}
            for name, k in self.hyperedges.items()
        }
        weights = {
            name: {str(axis): ranges(kept) for axis, kept in sorted(axes.items())}
            for name, axes in self.weights.items()
        }
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "graph_sha256": self.graph_sha256,
            "budget": dict(self.budget),
            "costs": {k: {"dense": a, "pruned": b} for k, (a, b) in self.costs.items()},
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            **({"prices": dict(self.prices)} if self.prices else {}),
            "components": dict(self.components),
            "options": dict(self.options),
            "versions": dict(self.versions),
            "hyperedges": edges,
            "weights": weights,
            **({"groups": {k: x.to_dict() for k, x in self.groups.items()}} if self.groups else {}),
            **({"bits": dict(self.bits)} if self.bits else {}),
        }
        lines = []
        for key, value in body.items():
            if key in ("hyperedges", "weights", "costs", "groups", "bits") and value:
                rows = [
                    f"    {json.dumps(k)}: {json.dumps(value[k], sort_keys=True)}"
                    for k in sorted(value)
                ]
                lines.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n  }")
            else:
                lines.append(f"  {json.dumps(key)}: {json.dumps(value, sort_keys=True)}")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan. Raises PlanError that names the JSON path of the bad field."""
        try:
            body = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"the plan is not JSON: {error}") from None
        _check_fields(body)
        return cls(
            graph_sha256=body["graph_sha256"],
            hyperedges={k: _kept(k, v) for k, v in body["hyperedges"].items()},
            weights={k: _axes(k, v) for k, v in body["weights"].items()},
            costs={k: _cost(k, v) for k, v in body["costs"].items()},
            budget={k: _integer(f"$.budget[{k!r}]", v) for k, v in body["budget"].items()},
            objective=float(body["objective"]),
            bound=None if body["bound"] is None else float(body["bound"]),
            gap=None if body["gap"] is None else float(body["gap"]),
            components=body["components"],
            options=body["options"],
            versions=body["versions"],
            prices={k: _price(k, v) for k, v in body.get("prices", {}).items()},
            groups={k: _partition(k, v) for k, v in body.get("groups", {}).items()},
            bits={k: _integer(f"$.bits[{k!r}]", v) for k, v in body.get("bits", {}).items()},
        )


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def weight_slices(
    graph: Hypergraph, mask: NDArray[np.bool_]
) -> dict[str, dict[int, tuple[int, ...]]]:
    """Stored tensor -> axis -> kept indices, for every axis that loses channels."""
    stored = {w.value for w in graph.weights}
    out: dict[str, dict[int, tuple[int, ...]]] = {}
    for (value, axis), groups in graph.axes.items():
        if value in stored:
            kept = mask[groups]
            if not kept.all():
                out.setdefault(value, {})[axis] = tuple(np.flatnonzero(kept).tolist())
    return out


def _check_fields(body: object) -> None:
    if not isinstance(body, dict):
        raise PlanError("$: a plan is a JSON object")
    _known(body.keys(), (*FIELDS, *OPTIONAL))
    for name, kind in (*FIELDS.items(), *OPTIONAL.items()):
        if name in OPTIONAL and name not in body:
            continue
        if name not in body:
            raise PlanError(f"$.{name}: missing")
        value = body[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise PlanError(f"$.{name}: has the wrong type ({type(value).__name__})")
    if body["schema"] != SCHEMA:
        raise PlanError(f"$.schema: is {body['schema']}, this version reads {SCHEMA}")
    for table in ("components", "versions"):
        for key, value in body[table].items():
            if not isinstance(value, str):
                raise PlanError(f"$.{table}[{key!r}]: must be text")


def _known(given: Iterable[str], known: Iterable[str]) -> None:
    extra = sorted(set(given) - set(known))
    if extra:
        raise PlanError(f"$.{extra[0]}: unknown field")


def _integer(path: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PlanError(f"{path}: must be a non-negative integer, not {value!r}")
    return value


def _price(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise PlanError(f"$.prices[{name!r}]: must be a number of at least 0, not {value!r}")
    return float(value)


def _field(path: str, value: object, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise PlanError(f"{path}.{name}: missing")
    return value[name]


def _text_positions(path: str, text: object) -> tuple[int, ...]:
    if not isinstance(text, str):
        raise PlanError(f"{path}: must be text such as '0-11,14'")
    try:
        return positions(text)
    except ValueError as error:
        raise PlanError(f"{path}: {error}") from None


def _kept(name: str, value: object) -> Kept:
    path = f"$.hyperedges[{name!r}]"
    size = _integer(f"{path}.size", _field(path, value, "size"))
    kept = _text_positions(f"{path}.kept", _field(path, value, "kept"))
    count = _integer(f"{path}.count", _field(path, value, "count"))
    if kept and kept[-1] >= size:
        raise PlanError(f"{path}.kept: position {kept[-1]} is outside of size {size}")
    if count != len(kept):
        raise PlanError(f"{path}.count: is {count}, but {len(kept)} positions are kept")
    return Kept(size, kept)


def _axes(name: str, value: object) -> dict[int, tuple[int, ...]]:
    path = f"$.weights[{name!r}]"
    if not isinstance(value, dict):
        raise PlanError(f"{path}: must be an object of axes")
    out = {}
    for axis, kept in value.items():
        if not str(axis).isdigit():
            raise PlanError(f"{path}[{axis!r}]: an axis is a non-negative integer")
        out[int(axis)] = _text_positions(f"{path}[{axis!r}]", kept)
    return out


def _cost(name: str, value: object) -> tuple[int, int]:
    path = f"$.costs[{name!r}]"
    return (
        _integer(f"{path}.dense", _field(path, value, "dense")),
        _integer(f"{path}.pruned", _field(path, value, "pruned")),
    )


def _partition(name: str, value: object) -> Partition:
    path = f"$.groups[{name!r}]"
    sides = {side: _field(path, value, side) for side in ("outputs", "inputs")}
    rows = _integer(f"{path}.outputs.size", _field(f"{path}.outputs", sides["outputs"], "size"))
    columns = _integer(f"{path}.inputs.size", _field(f"{path}.inputs", sides["inputs"], "size"))
    if max(rows, columns) > MOST_CHANNELS:
        raise PlanError(f"{path}: no axis has {max(rows, columns)} channels")
    try:
        return Partition.of(
            _group_ids(f"{path}.outputs", sides["outputs"], rows),
            _group_ids(f"{path}.inputs", sides["inputs"], columns),
        )
    except ValueError as error:
        raise PlanError(f"{path}: {error}") from None


def _group_ids(path: str, side: object, size: int) -> list[int]:
    ids = [REMOVED] * size
    groups = _field(path, side, "groups")
    if not isinstance(groups, list):
        raise PlanError(f"{path}.groups: must be a list of texts such as '0-3,8'")
    for number, text in enumerate(groups):
        for position in _text_positions(f"{path}.groups[{number}]", text):
            if position >= size or ids[position] != REMOVED:
                raise PlanError(
                    f"{path}.groups[{number}]: position {position} is in two groups, or outside of "
                    f"size {size}"
                )
            ids[position] = number
    return ids
