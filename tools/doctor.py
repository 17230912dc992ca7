"""``prunec doctor``: what is installed, what works, how to mend what does not."""

from __future__ import annotations

import argparse

from prunec.tools.options import SAYING
from prunec.tools.render import Block, Console, Table

OPTIONS = {"output": SAYING}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments (there are none)."""


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the findings; 1 if one of them is an error."""
    with console.progress() as progress:
        progress("looking around")
        from prunec.runtime.doctor import Level, diagnose

        findings = diagnose()
    errors = [f for f in findings if f.level is Level.ERROR]
    remedies = [f"{f.topic}: {f.remedy}" for f in findings if f.remedy and f.level is not Level.OK]
    blocks: list[Block] = [
        Table(
            ("topic", "state", "finding"),
            [(f.topic, f.level.value, f.message) for f in findings],
        )
    ]
    if remedies:
        blocks.append("to mend:\n" + "\n".join(f"  {line}" for line in remedies))
    console.result(lambda: {"ok": not errors, "findings": [f.to_dict() for f in findings]}, blocks)
    return 1 if errors else 0
