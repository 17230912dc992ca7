"""``prunec diff A B``: what two plans decide, or two models hold, differently."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import UsageError
from prunec.tools.options import ANALYSING, SAYING
from prunec.tools.parsing import complete_files
from prunec.tools.plan_file import looks_like_plan, read_plan
from prunec.tools.render import Block, Console, Table, quantity
from prunec.tools.settings import run_settings

if TYPE_CHECKING:
    from prunec.compiler.plan import Plan

OPTIONS = {"analysis": ANALYSING, "output": SAYING}
Shapes = Mapping[str, tuple[int, ...]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name in "ab":
        complete_files(
            parser.add_argument(name, metavar=name.upper(), help="a plan or an ONNX file")
        )


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the differences; 0 whether there are any or not."""
    a, b = Path(space.a), Path(space.b)
    kinds = {looks_like_plan(path) for path in (a, b)}
    if len(kinds) > 1:
        raise UsageError(f"{a} and {b}: give two plans or two models, not one of each")
    if kinds == {True}:
        document = diff_plans(a, b)
    else:
        shapes = run_settings(space).shapes
        with console.progress() as progress:
            progress("analysing")
            document = diff_models(a, b, shapes, strict=space.strict)
    console.result(lambda: document, _blocks(document))
    return 0


def diff_plans(a: Path, b: Path) -> dict[str, Any]:
    """Kept counts and positions that differ, costs of both."""
    first, second = read_plan(a), read_plan(b)
    rows = {}
    for name in dict.fromkeys([*first.hyperedges, *second.hyperedges]):
        x, y = first.hyperedges.get(name), second.hyperedges.get(name)
        if x != y:
            both = set(x.positions if x else ()) ^ set(y.positions if y else ())
            rows[name] = {
                "size": next(kept.size for kept in (x, y) if kept is not None),
                "a": None if x is None else len(x.positions),
                "b": None if y is None else len(y.positions),
                "positions_that_differ": len(both),
            }
    names = dict.fromkeys([*first.costs, *second.costs])
    return {
        "kind": "plans",
        "same_model": first.graph_sha256 == second.graph_sha256,
        "costs": {
            name: {
                "a": first.costs[name][1] if name in first.costs else None,
                "b": second.costs[name][1] if name in second.costs else None,
            }
            for name in names
        },
        "components": {
            key: {"a": first.components.get(key), "b": second.components.get(key)}
            for key in sorted({*first.components, *second.components})
            if first.components.get(key) != second.components.get(key)
        },
        "hyperedges": rows,
        "groups": _groups(first, second),
    }


def _groups(first: Plan, second: Plan) -> dict[str, dict[str, int]]:
    """Weights with other blocks: groups in both, 1 for none, and pairs of channels that differ."""
    rows = {}
    for name in dict.fromkeys([*first.groups, *second.groups]):
        x, y = first.groups.get(name), second.groups.get(name)
        if x == y:
            continue
        masks = [p.mask() for p in (x, y) if p is not None]
        same = len(masks) == 2 and masks[0].shape == masks[1].shape
        differ = int((masks[0] != masks[1]).sum()) if same else 0
        rows[name] = {
            "a": 1 if x is None else x.groups,
            "b": 1 if y is None else y.groups,
            "pairs_that_differ": differ if same else max(m.size - int(m.sum()) for m in masks),
        }
    return rows


def diff_models(a: Path, b: Path, shapes: Shapes, *, strict: bool = False) -> dict[str, Any]:
    """Stored tensors and operator counts that differ, costs of both."""
    from collections import Counter

    from prunec.runtime.subject import open_model

    subjects = [open_model(path, shapes, strict=strict) for path in (a, b)]
    weights = [
        {
            name: list(value.const_value.shape.numpy())
            for name, value in subject.source.graph.initializers.items()
            if value.const_value is not None
        }
        for subject in subjects
    ]
    nodes = [Counter(node.op_type for node in s.source.graph) for s in subjects]
    costs = [{n: c(s.graph.dense()) for n, c in s.graph.costs.items()} for s in subjects]
    return {
        "kind": "models",
        "same_graph": subjects[0].digest == subjects[1].digest,
        "costs": _pairs(costs),
        "operators": _pairs([dict(n) for n in nodes], only_different=True),
        "tensors": _pairs(weights, only_different=True),
    }


def _pairs(
    tables: Sequence[Mapping[str, Any]], *, only_different: bool = False
) -> dict[str, dict[str, Any]]:
    first, second = tables
    return {
        name: {"a": first.get(name), "b": second.get(name)}
        for name in dict.fromkeys([*first, *second])
        if not only_different or first.get(name) != second.get(name)
    }


def _blocks(document: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = [
        Table(
            ("cost", "a", "b", "b / a"),
            [(name, *_costs(name, pair)) for name, pair in document["costs"].items()],
            frozenset({"a", "b", "b / a"}),
        )
    ]
    for what in ("components", "operators", "tensors"):
        rows = [(k, _text(v["a"]), _text(v["b"])) for k, v in document.get(what, {}).items()]
        if rows:
            blocks.append(Table((what, "a", "b"), rows))
    edges = document.get("hyperedges", {})
    if edges:
        kept = [
            (k, str(v["size"]), _text(v["a"]), _text(v["b"]), str(v["positions_that_differ"]))
            for k, v in edges.items()
        ]
        header = ("hyperedge", "size", "a keeps", "b keeps", "positions that differ")
        blocks.append(Table(header, kept, frozenset(header[1:])))
    groups = document.get("groups", {})
    if groups:
        columns = ("weight", "groups in a", "groups in b", "pairs of channels that differ")
        found = [(k, *(str(n) for n in v.values())) for k, v in groups.items()]
        blocks.append(Table(columns, found, frozenset(columns[1:])))
    if document["kind"] == "plans" and not document["same_model"]:
        blocks.append("the plans are for different models")
    if len(blocks) == 1:
        blocks.append(f"no difference between the {document['kind']}")
    return blocks


def _costs(name: str, pair: Mapping[str, int | None]) -> tuple[str, str, str]:
    a, b = pair["a"], pair["b"]
    shown = ["-" if x is None else quantity(name, x) for x in (a, b)]
    return shown[0], shown[1], f"{b / a:.4f}" if a and b is not None else "-"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
