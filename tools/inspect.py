"""``prunec inspect MODEL``: what can leave, what holds the rest, and the hyperedges."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import UsageError
from prunec.tools.main_job import add_model, analyse
from prunec.tools.options import FREEING, SAYING
from prunec.tools.render import Block, Console, Table, quantity
from prunec.tools.settings import run_settings
from prunec.tools.summary import diagnostic_lines

if TYPE_CHECKING:
    from prunec.compiler.coverage import Coverage
    from prunec.compiler.hypergraph import Axis, Hypergraph
    from prunec.compiler.reasons import Reason
    from prunec.runtime.subject import Subject

OPTIONS = {"analysis": FREEING, "output": SAYING}
FORMATS = ("dot", "graphml")
CONVENTIONS = ("macs", "2macs", "gator")  # names only: importing the table is slow
SHOWN_SHARE = 0.00005  # 0.01 %, as shown


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    for name in FORMATS:
        parser.add_argument(
            f"--{name}",
            dest="format",
            action="append_const",
            const=name,
            help=f"the bipartite graph of hyperedges and axes as {name}, on stdout",
        )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="show what one channel of each hyperedge weighs in flops and params (Gator's weights) "
        "and what would go with half of its channels",
    )
    parser.add_argument(
        "--flops-convention",
        choices=CONVENTIONS,
        help="count flops and params for --weights as another tool does: 2macs (a multiplication "
        "and an addition), gator (convolutions, per input pixel, strides as in the first ResNet); "
        "implies --weights (default: macs)",
    )


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the hyperedges; 0 or an exception."""
    formats = [*(space.format or ()), *(["json"] if console.json else [])]
    if len(set(formats)) > 1:
        raise UsageError(f"--{formats[0]} and --{formats[1]} both want stdout; choose one")
    settings = run_settings(space)
    with console.progress() as progress:
        subject = analyse(space.model, settings, progress)
    graph = subject.graph
    if formats and formats[0] in FORMATS:
        console.text(dot(graph) if formats[0] == "dot" else graphml(graph))
        return 0
    document = hypergraph_document(graph)
    blocks = _blocks(graph, document)
    if space.weights or space.flops_convention:
        document["weights"] = weights_document(subject, space.flops_convention or "macs")
        blocks.append(_weights_table(document["weights"]))
    console.result(lambda: {"model": space.model, **document}, blocks)
    return 0


def weights_document(subject: Subject, convention: str) -> dict[str, Any]:
    """Gator's weights of every hyperedge at the dense counts, and half-channel reductions.

    weight: share of the total that one channel brings. half: share that goes with half of them.
    """
    from prunec.compiler.conventions import CONVENTIONS
    from prunec.compiler.weights import edge_weights, exact, half_shares

    graph = subject.graph
    dense = graph.dense()
    costs = CONVENTIONS[convention](subject.model, subject.facts, graph)
    weights = {name: edge_weights(cost, dense) for name, cost in costs.items()}
    halves = {name: half_shares(cost, dense) for name, cost in costs.items()}
    return {
        "convention": convention,
        "totals": {name: exact(cost, dense) for name, cost in costs.items()},
        "hyperedges": {
            edge.name: {
                "size": edge.size,
                "weight": {name: float(own[e]) for name, own in weights.items()},
                "half": {name: float(own[e]) for name, own in halves.items()},
            }
            for e, edge in enumerate(graph.edges)
        },
    }


def _weights_table(document: dict[str, Any]) -> Table:
    names = list(document["totals"])
    columns = [f"{name} {what}" for name in names for what in ("per channel", "by half")]
    rows = [
        (
            edge,
            str(about["size"]),
            *(
                text
                for name in names
                for text in (f"{about['weight'][name]:.3e}", f"{about['half'][name]:.4%}")
            ),
        )
        for edge, about in document["hyperedges"].items()
    ]
    return Table(("hyperedge", "size", *columns), rows, frozenset({"size", *columns}))


def hypergraph_document(graph: Hypergraph) -> dict[str, Any]:
    """Coverage, costs, hyperedges and diagnostics as JSON values.

    The share of a hyperedge is what would disappear with all of its channels, as a part of the
    dense cost; hyperedges meet in products, so shares add up to more than 1. Frozen: what would
    stay without any hyperedge.
    """
    from prunec.compiler.cost import frozen_part
    from prunec.compiler.coverage import coverage, to_dict

    dense = graph.dense()
    totals = {name: cost(dense) for name, cost in graph.costs.items()}
    edges = []
    without = {name: cost.without_each(dense) for name, cost in graph.costs.items()}
    for number, edge in enumerate(graph.edges):
        edges.append(
            {
                "name": edge.name,
                "size": edge.size,
                "share": {
                    name: _share(total - without[name][number], total)
                    for name, total in totals.items()
                },
                "members": [
                    {
                        "value": m.value,
                        "axis": m.axis,
                        "multiplicity": m.multiplicity,
                        "weight": m.is_weight,
                    }
                    for m in edge.members
                ],
            }
        )
    found = coverage(graph)
    return {
        "coverage": to_dict(found),
        "barriers": {
            reason.value: {
                "meaning": reason.meaning,
                "remedy": reason.remedy,
                "example": None if axis is None else f"{axis[0]}:{axis[1]}",
            }
            for reason, axis in _barriers(found)
        },
        "costs": totals,
        "frozen_share": {
            name: _share(frozen_part(cost, len(dense)), totals[name])
            for name, cost in graph.costs.items()
        },
        "channels": sum(dense),
        "hyperedges": edges,
        "branches": [[graph.edges[e].name for e in branch] for branch in graph.branches],
        "joins": [join.node for join in graph.joins],
        "diagnostics": [d.to_dict() for d in graph.diagnostics],
    }


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0


def _blocks(graph: Hypergraph, document: dict[str, Any]) -> list[Block]:
    names = list(graph.costs)
    rows = [
        (
            edge["name"],
            str(edge["size"]),
            str(len(edge["members"])),
            *(f"{edge['share'][name]:.2%}" for name in names),
        )
        for edge in document["hyperedges"]
    ]
    blocks: list[Block] = [
        *_coverage_blocks(document),
        Table(
            ("hyperedge", "size", "members", *names), rows, frozenset({"size", "members", *names})
        )
        if rows
        else "no channel of this model can be removed",
    ]
    if document["branches"]:
        count, first = len(document["branches"]), ", ".join(document["branches"][0])
        blocks.append(f"{count} branches may vanish whole with --min-keep 0, the first {first}")
    if document["joins"]:
        count = len(set(document["joins"]))
        blocks.append(
            f"{count} additions of which operands and result may keep different channels, the "
            f"first {document['joins'][0]}"
        )
    if graph.diagnostics:
        blocks.append(diagnostic_lines(graph.diagnostics))
    return blocks


def _barriers(found: Coverage) -> list[tuple[Reason, Axis | None]]:
    """Reasons that hold some of a resource, as ordered there, with an example of each."""
    reasons = dict.fromkeys(r for c in found.resources.values() for r in c.barriers)
    return [(reason, found.examples.get(reason)) for reason in reasons]


def _coverage_blocks(document: dict[str, Any]) -> list[Block]:
    """What can leave, and what holds the rest."""
    found = document["coverage"]
    blocks: list[Block] = [
        Table(
            ("cost", "dense", "prunable", "smallest"),
            [
                (
                    name,
                    quantity(name, c["dense"]),
                    f"{c['prunable_share']:.2%}",
                    f"{c['smallest_ratio']:.4f}",
                )
                for name, c in found.items()
            ],
            frozenset({"dense", "prunable", "smallest"}),
        )
    ]
    rows = [
        (
            reason,
            *(f"{c['barriers'].get(reason, 0.0):.2%}" for c in found.values()),
            about["example"] or "",
            about["remedy"],
        )
        for reason, about in document["barriers"].items()
        if any(c["barriers"].get(reason, 0.0) >= SHOWN_SHARE for c in found.values())
    ]
    if rows:
        columns = ("kept by", *found, "for example", "would free it")
        blocks.append(Table(columns, rows, frozenset(found)))
    return blocks


def dot(graph: Hypergraph) -> str:
    """The bipartite graph in Graphviz's language."""
    lines = ["graph hyperedges {", "  rankdir=LR;"]
    view = graph.to_networkx()
    for node, about in view.nodes(data=True):
        if about["kind"] == "edge":
            shape, label = "box", f"{node}\n{about['size']} channels"
        else:
            shape = "ellipse" if about["weight"] else "plaintext"
            label = str(node).removeprefix("axis ")
        lines.append(f"  {_quoted(node)} [shape={shape}, label={_quoted(label)}];")
    for a, b, about in view.edges(data=True):
        times = f" [label={_quoted(about['multiplicity'])}]" if about["multiplicity"] > 1 else ""
        lines.append(f"  {_quoted(a)} -- {_quoted(b)}{times};")
    return "\n".join([*lines, "}"])


def _quoted(text: object) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def graphml(graph: Hypergraph) -> str:
    """The bipartite graph in GraphML."""
    import networkx as nx

    return "\n".join(nx.generate_graphml(graph.to_networkx()))
