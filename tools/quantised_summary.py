"""What quantising made of a model, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prunec.tools.measured import size_and_accuracy
from prunec.tools.render import Block, Table, duration

if TYPE_CHECKING:
    from prunec.runtime.quantize.job import QuantisedModel
    from prunec.runtime.quantize.report import QuantisationReport

SHOWN_REASONS = 4
FLOAT_BITS = 32
RIGHT = frozenset({"float", "quantised", "change"})


def quantised_table(found: QuantisedModel) -> Table:
    """File, accuracy and latency of both models, as far as they were measured."""
    return Table(("measured", "float", "quantised", "change"), list(_measured(found)), RIGHT)


def _measured(found: QuantisedModel) -> Iterator[tuple[str, str, str, str]]:
    yield from size_and_accuracy(found.sizes, found.accuracy)
    if found.bench is not None:
        first, second = found.bench.models
        ratio = found.bench.ratios[0]
        change = f"{ratio.ratio:.2f} x as fast ({ratio.low:.2f} to {ratio.high:.2f})"
        yield "latency", duration(first.median_s), duration(second.median_s), change


def quantised_blocks(report: QuantisationReport, verbose: bool = False) -> list[Block]:
    """Bits, kernels, and what stayed float. verbose: every node that did."""
    pairs = list(_lines(report))
    width = max(len(name) for name, _ in pairs)
    blocks: list[Block] = ["\n".join(f"{name.ljust(width)}  {text}" for name, text in pairs)]
    if verbose and report.floats:
        rows = [(name, why) for name, why in report.floats.items()]
        blocks.append(Table(("stays float", "because"), rows))
    return blocks


def _lines(report: QuantisationReport) -> Iterator[tuple[str, str]]:
    biases = ", biases corrected" if report.correction else ""
    ranges = f"ranges by {report.ranges}, " if report.activation_bits else ""
    yield "recipe", f"{report.recipe} ({ranges}rounding by {report.rounding}{biases})"
    norms = f"; {report.norms} norms folded into layers" if report.norms else ""
    yield "integers", f"{_counts(report.nodes)}{norms}"
    yield "weight bits", _bits(report.weight_bits, "weights")
    if report.activation_bits:
        text = _bits(report.activation_bits, "values")
        source = f"calibrated with {report.samples} samples" if report.samples else "scales trained"
        yield "activation bits", f"{text}, {source}"
    else:
        yield "activation bits", "float"
    if report.size is not None:
        yield "on average", _average(report)
    if report.kernels is not None:
        integer = report.kernels.integer
        yield "integer kernels", _counts(integer) if integer else "none: layers run in float"
        layers = report.kernels.float_layers
        if layers:
            some = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
            yield "float layers", f"{len(layers)} ({some})"
        yield "left unfused", f"{report.kernels.conversions} QuantizeLinear and DequantizeLinear"
    reasons = Counter(report.floats.values()).most_common(SHOWN_REASONS)
    for why, count in reasons:
        yield "stays float", f"{count} node{'s' * (count != 1)}: {why}"


def _average(report: QuantisationReport) -> str:
    size = report.size
    assert size is not None
    text = (
        f"{size.bits_per_weight:.2f} bits per weight, {size.bits_per_activation:.2f} per activation"
    )
    if size.density is not None:
        text += f"; performance density {size.density:.4g} per Mbit"
    return text


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {op}" for op, n in counts.items())


def _bits(counts: Mapping[int, int], what: str) -> str:
    parts = [
        f"{n} {what} {'float' if bits == FLOAT_BITS else f'of {bits} bits'}"
        for bits, n in counts.items()
    ]
    return ", ".join(parts)
