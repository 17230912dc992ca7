"""com.microsoft operators whose weights are packed in blocks of a few bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from prunec.compiler.encoding import Encoding
from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.rules.contraction import matmul
from prunec.compiler.rules.quantised import auxiliary, in_blocks, needs, per_channel
from prunec.compiler.site import Rule, Site, Unsupported


def matmul_nbits(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``a (*, K), b (N, K / block, bytes) -> (*, N)``, scales (N, K / block); com.microsoft
    MatMulNBits.

    N is free. K shrinks by whole blocks, or by as many blocks as have their zero points in one
    byte. Flat scales and zero points are made two-dimensional before the analysis.
    """
    x, b, scales, *rest = ins
    zeros, order = (*rest, (), ())[:2]
    bits, block = site.attr("bits", 4), site.attr("block_size", 32)
    if not x or len(b) != 3 or bits not in (2, 4, 8) or block <= 0:
        raise Unsupported(f"{bits} bits in blocks of {block} in a weight of rank {len(b)}")
    inner, (rows, blocks) = x[-1], b[:2]
    if order:
        raise Unsupported("channels in an order of their own (g_idx)", Reason.PACKED_BLOCK)
    if site.attr("weight_prepacked", 0):
        raise Unsupported("weights packed for one machine", Reason.PACKED_BLOCK)
    auxiliary(site, c, 2, 3)
    c.encode(1, Encoding((site.name(2),), site.name(3), 0, 0, bits, 1 << (bits - 1)))
    in_blocks(inner, blocks, block, c)
    _table(scales, rows, blocks, c)
    _table(zeros, rows, blocks, c)
    per_channel(ins, c, rows, 5)
    c.resize("K", site.attr("K", len(inner)), {0: inner})
    c.resize("N", site.attr("N", len(rows)), {0: rows})
    view = replace(site, constants=(None, None), weights=site.weights[:2])
    return matmul(view, [x, (inner, rows)], c)


def _table(table: AxisLabels, rows: Labels, blocks: Labels, c: Coupler) -> None:
    """Scales, or zero points of which a byte holds those of several blocks: (N, blocks)."""
    if not table:
        return
    if len(table) != 2:
        if len(table[0]) % max(len(rows), 1):
            raise Unsupported(f"a flat table of {len(table[0])} for {len(rows)} rows")
        if len(blocks) > 1:
            c.freeze(blocks, Reason.PACKED_BLOCK, "a flat table of rows and blocks")
        c.tie(table[0].reshape(len(rows), -1), rows[:, None], "the row of a block")
        return
    if not len(table[1]):
        raise Unsupported("a table without columns")
    c.tie(table[0], rows, "the row of a block")
    if len(table[1]) == len(blocks):
        c.tie(table[1], blocks, "the column of a block")
    else:
        in_blocks(blocks, table[1], -(-len(blocks) // len(table[1])), c)


def gather_block_quantized(
    site: Site, ins: Sequence[AxisLabels], c: Coupler
) -> Sequence[AxisLabels]:
    """Rows of a table (V, columns) with scales (V, blocks); com.microsoft GatherBlockQuantized.

    A byte of the table holds several numbers, and a byte of zero points those of several blocks.
    """
    table, indices, scales, *zeros = ins
    axes = site.attr("gather_axis", 0), site.attr("quantize_axis", 1) % max(len(table), 1)
    if len(table) != 2 or axes != (0, 1):
        raise Unsupported("anything but rows of a table that is quantised along its columns")
    size, block = site.out_shapes[0][-1], site.attr("block_size", 128)
    packing = size // max(len(table[1]), 1)
    tables = [scales, *(z for z in zeros if z)]
    if size != packing * len(table[1]) or packing not in (1, 2, 4) or block <= 0:
        raise Unsupported(f"{size} columns from {len(table[1])} in blocks of {block}")
    if any(len(p) != 2 or not len(p[1]) for p in tables):
        raise Unsupported("scales that are no matrix")
    columns = c.fresh(size) if packing > 1 else table[1]
    if packing > 1:
        in_blocks(columns, table[1], packing, c)
    auxiliary(site, c, 2, 3)
    bits = 8 // packing if packing > 1 else 0
    middle = 1 << (bits - 1) if bits and not site.has(3) else 0
    c.encode(
        0,
        Encoding(
            (site.name(2),), site.name(3), 1, block // packing if bits else block, bits, middle
        ),
    )
    for p in tables:
        in_blocks(columns, p[1], block * -(-len(scales[1]) // len(p[1])), c)
    for p in (table, *tables):
        c.freeze(p[0], Reason.DYNAMIC_SHAPE, "rows that are picked by data")
    if site.weights[0]:
        c.free(columns)
    return [(*indices, columns)]


RULES: Mapping[str, Rule] = {
    "com.microsoft::GatherBlockQuantized": needs(gather_block_quantized, 0, 1, 2),
    "com.microsoft::MatMulNBits": needs(matmul_nbits, 0, 1, 2),
}
