"""The command line: which command, its options, and one line for everything that goes wrong."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from prunec.compiler.errors import PrunecError, UsageError
from prunec.compiler.spec import suggest
from prunec.tools.parsing import Parser, add_options, settle
from prunec.tools.stopping import Terminated, terminable

if TYPE_CHECKING:
    from prunec.tools.render import Console

# Command -> what it does; each is a module of this package with `configure`, `OPTIONS` and `run`.
COMMANDS: Mapping[str, str] = {
    "inspect": "coverage of a model and what limits it; hyperedges, share of each cost",
    "explain": "what an axis is coupled to, or what froze it",
    "plan": "decide only: write the plan",
    "apply": "rewrite a model by a plan",
    "diff": "compare two plans, or two models",
    "verify": "prove a pruned model against the dense one and the plan",
    "eval": "accuracy of models on labelled data, side by side, or a metric of your own",
    "bench": "latency of models, side by side",
    "sweep": "one scoring, many budgets: a table, a plot, plans and the knee",
    "profile": "measure what kernels take here, for latency budgets",
    "train": "prune while training: gates or masks close channels until the budget is met",
    "quantize": "integers for floats, by a recipe; which kernels run, what it costs",
    "finetune": "train a pruned model: by the dense one's outputs, by labels, or both",
    "doctor": "what is installed, what works, how to mend what does not",
}
MAIN_JOB = "main_job"
SHELLS = ("bash", "zsh")
INTERRUPTED, TERMINATED = 130, 143
USAGE = """prunec MODEL --budget R=V[,R=V] [options]
       prunec COMMAND ... (see below; prunec COMMAND --help)"""
EPILOG = (
    "commands (a model of such a name is ./NAME):\n"
    + "\n".join(f"  {name:<9} {about}" for name, about in COMMANDS.items())
    + """

exit codes:
  0  done
  1  error: the model, data or plan cannot be used, or the result cannot be written
  2  usage: the command line or the configuration file is wrong
  3  the budget cannot be met, --max-gap is not proven, or nothing can be pruned
  4  verification failed
  5  not faster (bench, --min-speedup)
  130  interrupted
  143  terminated (SIGTERM)

examples:
  prunec model.onnx --budget flops=0.5
  prunec model.onnx --budget flops=0.5,bytes=4MB --data images/ --score activation --bench"""
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code and never raises for what users can cause."""
    words = list(sys.argv[1:] if argv is None else argv)
    from prunec.tools.render import Console

    console = Console()
    try:
        with terminable():
            code = _run(words, console)
            sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help, --version, --print-completion
        return int(stop.code or 0)
    except BrokenPipeError:
        # The reader has gone. What Python still holds for it would fail again at exit.
        with open(os.devnull, "w") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        files = ", ".join(map(str, console.written()))
        written = f"{files} was complete" if files else "nothing was written"
        _complain(f"{'terminated' if terminated else 'interrupted'}; {written}")
        return TERMINATED if terminated else INTERRUPTED
    except PrunecError as error:
        _complain(str(error))
        return error.exit_code
    except MemoryError:
        _complain("out of memory; nothing was written")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
    except Exception as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        _complain(f"internal error: {what}; please report (run with -v for the traceback)")
        if console.verbose:
            import traceback

            traceback.print_exc()
    return 1


def _complain(message: str) -> None:
    print(f"prunec: {' '.join(message.split())}", file=sys.stderr)


def _run(words: list[str], console: Console) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may not fit a C locale
    name, words = split_command(words)
    if name == MAIN_JOB and not words:
        raise UsageError("give a model: prunec MODEL --budget flops=0.5 (see prunec --help)")
    command = _module(name)
    space = build_parser(name).parse(words)
    if "config" in space:
        from prunec.tools.config import merge_config

        space.overrides = merge_config(space, space.config, command.OPTIONS)
    settle(space, (option for group in command.OPTIONS.values() for option in group))
    console.json, console.quiet = bool(space.json), bool(space.quiet)
    console.verbose = space.verbose
    _set_up_logging(space.verbose)
    code: int = command.run(space, console)
    return code


def _set_up_logging(verbose: int) -> None:
    import logging
    import warnings

    if not verbose:
        warnings.simplefilter("ignore")  # Python's own warnings are for us, not for the user
        if not logging.root.handlers:
            logging.root.addHandler(logging.NullHandler())
        return
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    form = "%(levelname).1s %(name)s: %(message)s"
    logging.basicConfig(format=form, stream=sys.stderr, force=True)
    logging.getLogger("prunec").setLevel(logging.DEBUG if verbose > 1 else logging.INFO)


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command and its arguments; flags without a value may stand before its name."""
    for position, word in enumerate(words):
        if word in COMMANDS:
            return word, [*words[:position], *words[position + 1 :]]
        if word not in ("-q", "--quiet", "-v", "-vv", "--verbose", "--json"):
            _refuse_misspelt(words[position:])
            break
    return MAIN_JOB, list(words)


def _refuse_misspelt(words: Sequence[str]) -> None:
    first = words[0]
    if first.startswith("-") or "." in first or os.sep in first or os.path.exists(first):
        return
    near = suggest(first, COMMANDS)
    if "did you mean" in near or (len(words) > 1 and not words[1].startswith("-")):
        raise UsageError(f"unknown command {first!r}{near}")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"prunec.tools.{name}")


def build_parser(name: str = MAIN_JOB) -> Parser:
    """The parser of one command."""
    if name == MAIN_JOB:
        parser = Parser(
            prog="prunec",
            usage=USAGE,
            description="Make a trained ONNX network smaller and faster, and prove it.",
            epilog=EPILOG,
        )
        parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
        parser.add_argument(
            "--help-components", action=_Components, nargs=0,
            help="print every criterion and solver with its options",
        )  # fmt: skip
        parser.add_argument(
            "--print-completion", action=_Completion, choices=SHELLS,
            help="print a completion script for this shell",
        )  # fmt: skip
    else:
        parser = Parser(prog=f"prunec {name}", description=COMMANDS[name].capitalize() + ".")
    fill_parser(parser, name)
    return parser


def fill_parser(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the arguments and options of a command."""
    command = _module(name)
    command.configure(parser)
    for title, options in command.OPTIONS.items():
        add_options(parser, title, options)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from prunec._version import __version__

        print(f"prunec {__version__}")
        raise SystemExit(0)


class _Components(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from prunec.tools.settings import components_help

        print(components_help())
        raise SystemExit(0)


class _Completion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, space: object, shell: object, *_: object
    ) -> NoReturn:
        from prunec.tools.completion import script

        print(script(str(shell)))
        raise SystemExit(0)
