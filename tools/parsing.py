"""The parser: options from their table, errors with the nearest option that exists."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import suggest
from prunec.tools.options import Option


class Parser(argparse.ArgumentParser):
    """Reports through UsageError, with the nearest option that exists."""

    def __init__(self, **about: Any) -> None:
        about.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **about)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message.replace('argument ', '', 1)} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse everything. Raises UsageError."""
        before = argv[: argv.index("--")] if "--" in argv else argv
        for word in before:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                known = [o for o in self._option_string_actions if o.startswith("--")]
                raise UsageError(f"unknown option {name!r}{suggest(name, known)}")
        space, rest = self.parse_known_args(argv)
        if rest:
            what = "option" if rest[0].startswith("-") else "argument"
            raise UsageError(f"unexpected {what} {rest[0]!r} (see {self.prog} --help)")
        return space


def add_options(parser: argparse.ArgumentParser, title: str, options: Iterable[Option]) -> None:
    """Add a group of options; values that are not given stay None."""
    group = parser.add_argument_group(title)
    for option in options:
        text = option.help
        if option.default not in (None, False, 0) and option.convert is not bool:
            text += f" (default: {option.default})"
        names = [option.flag] if option.short is None else [option.short, option.flag]
        common: dict[str, Any] = {"dest": option.key, "default": None, "help": text}
        if option.convert is None:
            group.add_argument(*names, action="count", **common)
        elif option.convert is bool and option.key in ("json", "quiet"):
            group.add_argument(*names, action="store_const", const=True, **common)
        elif option.convert is bool:
            text = text + (" (default)" if option.default else "")
            common["help"] = text
            group.add_argument(*names, action=argparse.BooleanOptionalAction, **common)
        else:
            action = group.add_argument(
                *names,
                action="append" if option.many else "store",
                type=option.convert,
                metavar=option.metavar,
                choices=option.choices,
                **common,
            )
            if option.file:
                complete_files(action)


def complete_files(action: argparse.Action) -> None:
    """Let the shell offer file names for this argument."""
    # shtab reads this attribute; its values are names of shell functions (shtab.FILE).
    action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # type: ignore[attr-defined]


def settle(space: argparse.Namespace, options: Iterable[Option]) -> None:
    """Put the defaults where neither the command line nor the configuration says anything."""
    for option in options:
        if getattr(space, option.key, None) is None:
            setattr(space, option.key, () if option.many else option.default)
