"""What ``--group-conv`` asks for, from its text."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.passes.regroup.choosers import CHOOSERS, chooser
from prunec.passes.regroup.config import read_config


def parse_groups(text: str) -> int | str | Mapping[str, int]:
    """A number of groups, a way to choose them, or the table in a file. Raises UsageError."""
    word = text.strip()
    if word.partition("{")[0].strip() in CHOOSERS:
        chooser(word)  # refuses bad options before any work is done
        return word
    if word.lstrip("+-").isdecimal():
        return int(word)
    return read_config(word)
