"""Completion scripts for shells."""

from __future__ import annotations

import argparse

import shtab

from prunec.tools.cli import COMMANDS, build_parser, fill_parser


def script(shell: str) -> str:
    """The completion script for "bash" or "zsh".

    The first word may be a command or a model; shtab knows only commands there, so files are added
    to its script.
    """
    text: str = shtab.complete(_everything(), shell)
    if shell == "bash":
        return _insert(
            text,
            "\n_shtab_prunec_pos_0_choices=",
            "\n_shtab_prunec_pos_0_COMPGEN=_shtab_compgen_files",
        )
    return _insert(text, "\n  _describe 'prunec commands' _commands", "\n  _files")


def _insert(text: str, mark: str, extra: str) -> str:
    """Add `extra` after the line that begins with `mark`."""
    at = text.index("\n", text.index(mark) + 1)
    return text[:at] + extra + text[at:]


def _everything() -> argparse.ArgumentParser:
    """All commands in one parser; the main job's model is left out for them."""
    parser = build_parser()
    (model,) = [action for action in parser._actions if not action.option_strings]
    parser._remove_action(model)
    commands = parser.add_subparsers(dest="command", parser_class=argparse.ArgumentParser)
    for name, about in COMMANDS.items():
        fill_parser(commands.add_parser(name, help=about, description=about), name)
    return parser
