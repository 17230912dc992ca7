"""What the user sees: tables on a terminal, aligned text in a pipe, JSON for programs."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Identity = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text. numeric: names of the columns that are aligned on the right."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str] = frozenset()
    title: str = ""


Block = Table | str


class Console:
    """Where a command says things. Keeps in mind which files it may write."""

    def __init__(self) -> None:
        self.json = self.quiet = False
        self.verbose = 0
        self._targets: dict[Path, Identity] = {}

    def result(self, document: Callable[[], Mapping[str, Any]], blocks: Sequence[Block]) -> None:
        """Print a result: the document for ``--json``, else the blocks unless ``--quiet``."""
        if self.json:
            import json  # 5 ms that --help does not need

            print(json.dumps(finite(document()), indent=2, ensure_ascii=False))
        elif not self.quiet:
            show(blocks)

    def text(self, text: str) -> None:
        """Print a result that is text of its own (a plan, a drawing)."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """A function that says what is being done; shown on stderr if that is a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console as Rich
        from rich.markup import escape

        with Rich(stderr=True).status("starting") as status:
            yield lambda step: status.update(escape(step))

    def watch(self, *paths: Path) -> None:
        """Note the state of files that are going to be written."""
        self._targets.update((path, _identity(path)) for path in paths)

    def written(self) -> list[Path]:
        """The watched files that have changed."""
        return [path for path, before in self._targets.items() if _identity(path) != before]


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def finite(value: Any) -> Any:
    """The same JSON values with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def show(blocks: Sequence[Block]) -> None:
    """Print blocks to stdout with an empty line between them."""
    if sys.stdout.isatty():
        _show_rich(blocks)
        return
    print("\n\n".join(plain(block) for block in blocks))


def plain(block: Block) -> str:
    """A block as aligned text without any drawing.

    >>> print(plain(Table(("cost", "pruned"), [("flops", "12"), ("params", "7")], frozenset(["pruned"]))))
    cost    pruned
    flops       12
    params       7
    """  # noqa: E501
    if isinstance(block, str):
        return block
    lines = [tuple(block.header), *map(tuple, block.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [name in block.numeric for name in block.header]
    text = "\n".join(
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )
    return f"{block.title}\n{text}" if block.title else text


def _show_rich(blocks: Sequence[Block]) -> None:
    from rich import box
    from rich.console import Console as Rich
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Rich(highlight=False)
    for number, block in enumerate(blocks):
        if number:
            console.print()
        if isinstance(block, str):
            console.print(Text(block))
            continue
        table = RichTable(
            title=Text(block.title) if block.title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for name in block.header:
            table.add_column(
                Text(name),
                justify="right" if name in block.numeric else "left",
                overflow="fold",
            )
        for row in block.rows:
            table.add_row(*map(Text, row))
        console.print(table)


def quantity(resource: str, amount: int) -> str:
    """A cost for reading.

    >>> quantity("flops", 40551040), quantity("bytes", 272474), quantity("params", 512)
    ('40.55 M', '272.5 kB', '512')
    >>> quantity("latency", 8_030_000)
    '8.03 ms'
    """
    if resource == "latency":
        return duration(amount * 1e-9)
    unit = "B" if resource in ("bytes", "memory") else ""
    for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
        if amount >= 1000**power:
            return f"{amount / 1000**power:.4g} {prefix}{unit}"
    return f"{amount} {unit}".rstrip()


def duration(seconds: float) -> str:
    """A time for reading.

    >>> duration(0.00123), duration(2.5)
    ('1.23 ms', '2.5 s')
    """
    for scale, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
