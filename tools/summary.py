"""The summary of a pruned model, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.tools.measured import size_and_accuracy
from prunec.tools.quantised_summary import quantised_blocks
from prunec.tools.render import Block, Table, duration, quantity

if TYPE_CHECKING:
    from prunec.compiler.diagnostics import Diagnostic
    from prunec.compiler.grouped import GroupedLayer
    from prunec.compiler.plan import Plan
    from prunec.compiler.recovery import Recovered
    from prunec.passes.quantize.density import Density
    from prunec.runtime.bench import BenchResult
    from prunec.runtime.report import Report, Result
    from prunec.runtime.verify import Check, Verification

SHOWN_DIAGNOSTICS = 5
SHOWN_LAYERS = 5
ORDER = ("flops", "params", "bytes", "activations", "memory")


def report_document(
    model: Path, result: Result, out: Path | None, plan_out: Path | None
) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "model": str(model),
        "output": None if out is None else str(out),
        "plan": None if plan_out is None else str(plan_out),
        **removed(result.plan),
        **result.report.to_dict(),
    }


def removed(plan: Plan) -> dict[str, int]:
    """How much leaves: hyperedges that get narrower and channel groups, of how many."""
    edges = plan.hyperedges.values()
    return {
        "hyperedges": len(edges),
        "hyperedges_narrowed": sum(len(e.positions) < e.size for e in edges),
        "hyperedges_removed": sum(not e.positions for e in edges),
        "channels": sum(e.size for e in edges),
        "channels_removed": sum(e.size - len(e.positions) for e in edges),
    }


def report_blocks(
    result: Result, out: Path | None, plan_out: Path | None, verbose: bool = False
) -> list[Block]:
    """What the terminal shows. verbose: every layer of a recovery, not the worst alone."""
    report = result.report
    blocks: list[Block] = [
        cost_table(report.costs, report.budget),
        _lines(_choice(result.plan)),
    ]
    measured = list(_measured(report))
    if measured:
        blocks.append(Table(("measured", "dense", "pruned", "change"), measured, _RIGHT))
    if report.grouped:
        blocks.append(grouped_table(report.grouped, report.gathers))
    if report.recovery is not None:
        blocks.append(recovery_table(report.recovery, verbose))
    if report.quantised is not None:
        blocks += quantised_blocks(report.quantised, verbose)
    if report.verification is not None:
        blocks.append(check_table(report.verification))
    if report.bench is not None and report.bench.fallback:
        blocks.append(report.bench.fallback)
    if report.diagnostics:
        blocks.append(diagnostic_lines(report.diagnostics))
    written = [("model", out), ("plan", plan_out)]
    blocks.append(_lines((what, str(path)) for what, path in written if path is not None))
    if report.verification is None:
        blocks.append("not verified (--no-verify)")
    return blocks


def plan_document(
    model: Path, plan: Plan, out: Path, diagnostics: Sequence[Diagnostic]
) -> dict[str, Any]:
    """What ``prunec plan --json`` prints; the same names as in a report."""
    from prunec.runtime.report import decision  # loads onnx, which --help can do without

    return {
        "model": str(model),
        "plan": str(out),
        **removed(plan),
        **decision(
            plan, plan.components.get("solved_by", ""), plan.components.get("proved_by", "")
        ),
        "diagnostics": [d.to_dict() for d in diagnostics],
    }


def plan_blocks(plan: Plan, out: Path, diagnostics: Sequence[Diagnostic]) -> list[Block]:
    """What ``prunec plan`` shows."""
    from prunec.compiler.grouped import gathers_left, grouped_layers

    blocks: list[Block] = [cost_table(plan.costs, plan.budget), _lines(_choice(plan))]
    if plan.groups:
        blocks.append(grouped_table(grouped_layers(plan), gathers_left(plan)))
    if diagnostics:
        blocks.append(diagnostic_lines(diagnostics))
    return [*blocks, f"plan  {out}"]


_RIGHT = frozenset({"dense", "pruned", "ratio", "change", "budget", "used"})


def cost_table(costs: Mapping[str, tuple[int, int]], budget: Mapping[str, int]) -> Table:
    """Costs before and after, and how much of each budget is used."""
    rows = []
    for name, (dense, pruned) in sorted(costs.items(), key=lambda item: _rank(item[0])):
        limit = budget.get(name)
        rows.append(
            (
                name,
                quantity(name, dense),
                quantity(name, pruned),
                f"{pruned / dense:.4f}" if dense else "-",
                "" if limit is None else quantity(name, limit),
                "" if not limit else f"{pruned / limit:.2%}",
            )
        )
    return Table(("cost", "dense", "pruned", "ratio", "budget", "used"), rows, _RIGHT)


def _rank(resource: str) -> int:
    # A plan from a file has its resources in alphabetical order.
    return ORDER.index(resource) if resource in ORDER else len(ORDER)


def recovery_table(recovery: Recovered, verbose: bool = False) -> Table:
    """Relative errors of layers on held-out samples; the worst few unless verbose."""
    repairs = recovery.repairs
    if not verbose:
        worst = sorted(repairs, key=lambda repair: -repair.after)[:SHOWN_LAYERS]
        repairs = tuple(repair for repair in repairs if repair in worst)
    rows = [(x.layer, f"{x.before:.3f}", f"{x.after:.3f}") for x in repairs]
    rest = len(recovery.repairs) - len(repairs)
    shown = f"recovered layer (error on {recovery.held} held-out samples)"
    if rest:
        rows.append((f"and {rest} with smaller errors (-v shows all)", "", ""))
    return Table((shown, "sliced", "recovered"), rows, frozenset({"sliced", "recovered"}))


def check_table(verification: Verification) -> Table:
    """The oracle's checks."""
    return checks_table(verification.checks)


def checks_table(checks: Sequence[Check]) -> Table:
    """What was checked, and the evidence."""
    rows = [(c.name, "ok" if c.passed else "FAILED", c.detail) for c in checks]
    return Table(("check", "result", "evidence"), rows)


def grouped_table(layers: Sequence[GroupedLayer], gathers: Sequence[str] | None) -> Table:
    """Groups and kept share of each grouped convolution, and of all; Gathers that are left."""
    from prunec.compiler.grouped import mean_kept

    rows = [(x.weight, str(x.groups), f"{x.outputs} x {x.inputs}", _share(x.kept)) for x in layers]
    left = "" if gathers is None else f", {len(gathers)} Gather{'s' * (len(gathers) != 1)} left"
    rows.append((f"{len(layers)} grouped convolutions{left}", "", "", _share(mean_kept(layers))))
    header = ("grouped weight", "groups", "outputs x inputs", "kept")
    return Table(header, rows, frozenset({"groups", "kept"}))


def _share(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"


def zeroed_text(thinned: Mapping[str, Any]) -> str:
    """What kernel positions per filter come to."""
    counted = ", ".join(
        f"{name} {quantity(name, thinned['effective'][name])} of at most {quantity(name, limit)}"
        for name, limit in thinned["limits"].items()
    )
    weights = len(thinned["zeroed"])
    return f"kernel positions in {weights} weights; counted without them {counted}; saves no time"


def latency_text(record: Mapping[str, Any]) -> str:
    """Whose times a latency adds up, and how: the machine may be another one than this."""
    model, device, provider, threads, version = (
        record.get(key, "?") for key in ("model", "device", "provider", "threads", "onnxruntime")
    )
    own = f"{threads} thread{'s' * (threads != 1)}" if threads else "threads as onnxruntime chooses"
    return f"latency ({model}) on {device}, {provider}, {own}, onnxruntime {version}"


def _choice(plan: Plan) -> Iterator[tuple[str, str]]:
    count = removed(plan)
    yield (
        "removed",
        f"{count['channels_removed']} of {count['channels']} channels, "
        f"in {count['hyperedges_narrowed']} of {count['hyperedges']} hyperedges"
        + (f", {count['hyperedges_removed']} of them whole" * bool(count["hyperedges_removed"])),
    )
    thinned = plan.options.get("kernel_positions")
    if isinstance(thinned, dict):
        yield "zeroed", zeroed_text(thinned)
    if not plan.budget:  # nothing was weighed
        if "recovery" in plan.components:
            yield "recovery", plan.components["recovery"]
        return
    yield "objective", f"{plan.objective:.6g}"
    prover = plan.components.get("proved_by", "")
    by = f" (proven by {prover})" if prover else ""
    yield "bound", "none" if plan.bound is None else f"{plan.bound:.6g}{by}"
    yield "gap", "not proven" if plan.gap is None else f"{plan.gap:.4%}"
    latency = plan.options.get("latency")
    if isinstance(latency, dict):
        yield "predicted", latency_text(latency)
    solver, by = plan.components.get("solver", ""), plan.components.get("solved_by", "")
    for resource, price in plan.prices.items():
        share = f", {price / plan.objective:.2%}" if plan.objective > 0 else ""
        yield (
            "price",
            f"one more percent of {resource} would buy {price:.3g} of the objective{share}",
        )
    yield "solver", solver if solver == by else f"{solver} (answered by {by})"
    if "objective" in plan.components:
        yield "importance", plan.components["objective"]
    else:
        yield "criterion", plan.components.get("criterion", "")
    if "recovery" in plan.components:
        yield "recovery", plan.components["recovery"]


def _measured(report: Report) -> Iterator[tuple[str, str, str, str]]:
    yield from size_and_accuracy(report.sizes, report.accuracy)
    if report.density is not None:
        yield from density_rows(*report.density)
    if report.bench is not None:
        yield _latency(report.bench)


def density_rows(dense: Density, made: Density) -> Iterator[tuple[str, str, str, str]]:
    """Bits of weights and of activations, and what the model scores per megabit of both."""
    for name, a, b, each in (
        ("weight bits", dense.weight_bits, made.weight_bits, made.bits_per_weight),
        ("activation bits", dense.activation_bits, made.activation_bits, made.bits_per_activation),
    ):
        change = f"{b / a:.4f} x, {each:.4g} bits each" if a else "-"
        yield name, f"{a / 1e6:.4g} Mbit", f"{b / 1e6:.4g} Mbit", change
    if dense.density and made.density is not None:
        yield (
            "performance density",
            f"{dense.density:.4g} /Mbit",
            f"{made.density:.4g} /Mbit",
            f"{made.density / dense.density:.2f} x",
        )


def _latency(bench: BenchResult) -> tuple[str, str, str, str]:
    dense, pruned = bench.models
    ratio = bench.ratios[0]
    change = f"{ratio.ratio:.2f} x as fast ({ratio.low:.2f} to {ratio.high:.2f})"
    where = f"latency ({bench.provider}, {bench.threads} thread{'s' * (bench.threads != 1)})"
    return where, duration(dense.median_s), duration(pruned.median_s), change


def diagnostic_lines(diagnostics: Sequence[Diagnostic]) -> str:
    """Diagnostics one per line; those with the same code and message together."""
    counts = Counter((d.code, d.message) for d in diagnostics)
    first = {(d.code, d.message): d for d in reversed(diagnostics)}
    lines = []
    for key, count in counts.most_common():
        more = f" (and {count - 1} more such)" if count > 1 else ""
        lines.append(f"{first[key]}{more}")
    if len(lines) > SHOWN_DIAGNOSTICS:
        rest = sum(count for _, count in counts.most_common()[SHOWN_DIAGNOSTICS:])
        lines = [*lines[:SHOWN_DIAGNOSTICS], f"{rest} more (prunec inspect --json shows all)"]
    return "\n".join(lines)


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    items = list(pairs)
    width = max((len(name) for name, _ in items), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in items)
