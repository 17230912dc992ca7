"""Slim models of given widths, written so that a kernel's name tells what it stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from prunec.compiler.hypergraph import KEPT
from prunec.compiler.walk import bodies, nodes
from prunec.frontends.onnx import save
from prunec.passes.apply import prune
from prunec.runtime.subject import Subject

MARK = re.compile(r"prunec_n(\d+)_")


def slim(subject: Subject, counts: Sequence[int]) -> ir.Model:
    """The model with the first `counts` channels of each hyperedge: which ones costs the same.

    Of kernel positions the first set of that size that a convolution can have.
    """
    mask = np.zeros(subject.graph.number_of_groups + 1, bool)
    mask[KEPT] = True
    for e, (edge, count) in enumerate(zip(subject.graph.edges, counts, strict=True)):
        sets = subject.graph.subsets.get(e, ())
        kept = next((own for own in sets if len(own) == count), tuple(range(count)))
        mask[edge.first + np.array(kept, np.int64)] = True
    return prune(subject.model, subject.facts, subject.graph, mask)


def write_marked(subject: Subject, counts: Sequence[int], path: Path) -> None:
    """Write a slim model whose nodes and values carry their position in the dense graph."""
    save_marked(subject, slim(subject, counts), path)


def save_marked(subject: Subject, model: ir.Model, path: Path) -> None:
    """Rename the nodes and values of a rewritten model, in place, and write it.

    onnxruntime names a fused kernel after one of the nodes or values that it replaces.
    """
    position = {
        v.name: k for k, node in enumerate(subject.model.graph) for v in node.outputs if v.name
    }
    for node in model.graph:
        known = [position[v.name] for v in node.outputs if v.name in position]
        if not known:
            continue
        node.name = f"prunec_n{known[0]}_"
        for k, value in enumerate(node.outputs):
            if value.name:
                value.name = f"prunec_n{known[0]}_{k}"
    for node in (inner for own in model.graph for body in bodies(own) for inner in nodes(body)):
        node.name = f"body_{node.name}"
    save(model, path)
