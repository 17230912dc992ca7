"""Numbers of groups from a JSON file, as written by hand or as published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.ops import op_key
from prunec.compiler.spec import suggest
from prunec.compiler.walk import nodes
from prunec.passes.regroup.candidates import common_divisors
from prunec.passes.regroup.sites import Site

PREFIX = "module."  # of names that torch.nn.DataParallel wrote


def read_config(path: str | Path) -> dict[str, int]:
    """Name -> number of groups.

    ``{"name": G}``, or the published ``{"module.name": {"G": G, "F": F, "C": C}}``, whose further
    fields have no say. Raises UsageError for a file that can't be read or holds anything else.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # a JSONDecodeError or UnicodeDecodeError
        raise UsageError(f"{path}: is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"{path}: must be an object of numbers of groups by node or weight name")
    return {name: _number(f"{path}: {name!r}", entry) for name, entry in table.items()}


def _number(where: str, entry: object) -> int:
    """G of an entry, checked against its own F and C where it has these."""
    fields = entry if isinstance(entry, dict) else {"G": entry}
    if "G" not in fields:
        raise UsageError(f"{where}: has no G, the number of groups")
    said: dict[str, int] = {}
    for key in {"G", "F", "C"} & fields.keys():
        value = fields[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{where}: {key} must be a whole number of at least 1, not {value!r}")
        said[key] = value
    groups = said["G"]
    if said.get("F", groups) % groups or said.get("C", groups) % groups:
        raise UsageError(f"{where}: {groups} groups divide not both F and C")
    return groups


def told_by_name(
    table: Mapping[str, int], model: ir.Model, sites: Sequence[Site]
) -> dict[str, int]:
    """Weight -> number of groups, for the sites that the names mean.

    A name is that of a Conv node, of its weight, or the weight's without ``.weight``, with or
    without ``module.`` before it. Raises UsageError for names that the model does not have, for
    convolutions that can't be grouped, for numbers that do not divide both sides.
    """
    of_name = {name: weight for weight, names in _names(model) for name in names}
    at = {site.weight: site for site in sites}
    told: dict[str, int] = {}
    for name, groups in table.items():
        weight = of_name.get(name, of_name.get(name.removeprefix(PREFIX)))
        if weight is None:
            known = suggest(name.removeprefix(PREFIX), of_name)
            raise UsageError(f"no convolution has the name {name!r}{known}")
        if groups == 1:
            continue
        if weight not in at:
            raise UsageError(
                f"{name!r} can't get {groups} groups: not every reader of {weight} is a "
                "convolution with one group, or it is not stored; give it G = 1 or leave it out"
            )
        outputs, inputs = at[weight].shape[:2]
        if outputs % groups or inputs % groups:
            possible = ", ".join(map(str, common_divisors(outputs, inputs)))
            raise UsageError(
                f"{name!r} has {outputs} outputs and {inputs} inputs, which {groups} groups do "
                f"not divide; possible: {possible}"
            )
        if told.setdefault(weight, groups) != groups:
            raise UsageError(f"{name!r}: {weight} is given both {told[weight]} and {groups} groups")
    return told


def _names(model: ir.Model) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every convolution's weight, with the names that mean it; nodes last, as they are named."""
    for node in nodes(model.graph):
        weight = node.inputs[1] if op_key(node) == "Conv" else None
        if weight is not None and weight.name:
            yield weight.name, (weight.name.removesuffix(".weight"), weight.name, node.name or "")
