"""Options of the command line: one table for flags, keys of the configuration file and help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import suggest

if TYPE_CHECKING:
    from prunec.passes.pipeline import Options, Override
    from prunec.runtime.compile import Settings

# Names only: importing the components costs more than all of `--help`. A test holds them equal
# to CRITERIA and SOLVERS.
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "criteria": ("magnitude", "bn_scale", "random", "activation"),
    "solvers": ("auto", "milp", "greedy"),
}
Convert = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. key: in prunec.toml and on the namespace; where nothing is said, it is None.

    convert: text to value; bool for switches (``--x/--no-x``), None for a counted flag. many: may
    be repeated. default: what None stands for; shown in the help.
    """

    key: str
    help: str
    convert: Convert | type[bool] | None = str
    metavar: str | None = None
    short: str | None = None
    many: bool = False
    choices: tuple[str, ...] | None = None
    default: Any = None
    file: bool = False

    @property
    def flag(self) -> str:
        """The long spelling."""
        return "--" + self.key.replace("_", "-")


def whole(least: int) -> Convert:
    """A converter to integers from `least` on."""

    def integer(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
        return number

    return integer


def share(text: str) -> float:
    """A number from 0 to 1, or a percentage."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1 (or 0% and 100%), not {text!r}")
    return number


def seconds(text: str) -> float:
    """A positive number."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return number


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        wanted = "must be numbers such as 0.485,0.456,0.406"
        raise argparse.ArgumentTypeError(f"{wanted}, not {text!r}") from None


CHOOSING: tuple[Option, ...] = (
    Option(
        "budget",
        "what the result may cost at most; several with commas or by repeating. R is flops, macs, "
        "params or bytes. flops and macs are the same resource: one multiply-accumulate = 1. "
        "params: elements of weights, quantised ones included, without running statistics, scales "
        "and zero points. bytes: of those weights, 4 bits as half a byte. "
        "V up to 1 is a ratio of the dense model's total over the whole graph (0.46 or 46%%); "
        "larger ones are absolute (1.9G, 4MB)",
        metavar="R=V[,R=V]",
        many=True,
    ),
    Option(
        "score",
        f"importance criterion, one of {', '.join(COMPONENTS['criteria'])}, with options in "
        "braces: magnitude{p=1}",
        metavar="SPEC",
        default="magnitude",
    ),
    Option(
        "solver",
        f"one of {', '.join(COMPONENTS['solvers'])}, with options in braces: "
        "milp{backend=cbc,gap=0.001,time_limit=30}",
        metavar="SPEC",
        default="auto",
    ),
    Option(
        "align",
        "keep multiples of N channels per hyperedge (default: min(8, max(1, size // 8)))",
        whole(1),
        "N",
    ),
    Option("min_keep", "keep at least N channels per hyperedge", whole(1), "N", default=1),
    Option(
        "keep", "leave hyperedges alone whose name or weights match", metavar="REGEX", many=True
    ),
    Option("only", "touch only hyperedges whose name or weights match", metavar="REGEX", many=True),
    Option(
        "exponent",
        "value of a hyperedge = its share of the budgeted cost times (kept share of its scores) "
        "to this power, in (0, 1]; 1 is the plain sum, smaller spreads the cuts",
        share,
        "X",
        default=1.0,
    ),
    Option("max_gap", "fail unless the optimality gap is proven to be at most G", share, "G"),
)
ANALYSING: tuple[Option, ...] = (
    Option(
        "shape",
        "bind symbolic dimensions of an input for analysis and costs: image:1,3,224,224",
        metavar="NAME:DIMS",
        many=True,
    ),
    Option("strict", "an operator that prunec does not know is an error", bool, default=False),
    Option(
        "rules",
        "a Python module or .py file with RULES for operators that prunec does not know (see "
        "CONTRIBUTING.md); it is run, so name none that you do not trust",
        metavar="MODULE",
        many=True,
        file=True,
    ),
)
FREEING: tuple[Option, ...] = (
    *ANALYSING,
    Option(
        "residual",
        "let channels leave that a norm, a softmax or a mean runs over, such as the residual "
        "stream of a transformer; what stays is normalised by its own statistics",
        bool,
        default=False,
    ),
    Option(
        "heads",
        "remove whole attention heads instead of positions within all heads",
        bool,
        default=False,
    ),
)
DATA: tuple[Option, ...] = (
    Option(
        "data",
        "an .npz or .npy file, a folder of them, a folder of images, or module:function that "
        "yields feeds; for calibration and, with labels, accuracy",
        metavar="PATH",
        file=True,
    ),
    Option("mean", "of images, per colour", numbers, "M,M,M"),
    Option("std", "of images, per colour", numbers, "S,S,S"),
    Option("resize", "shorter side of images, before the crop", whole(1), "N"),
    Option("samples", "use at most N samples", whole(1), "N"),
)
RUNNING: tuple[Option, ...] = (
    Option("threads", "of onnxruntime; 0 lets it choose", whole(0), "N", default=1),
    Option("provider", "where models run", choices=("cpu", "cuda"), default="cpu"),
)
PROVING: tuple[Option, ...] = (
    Option("verify", "prove the result equal to the gated dense model", bool, default=True),
    Option("bench", "measure the latency of both models", bool, default=False),
    *RUNNING,
)
OUTPUT = Option(
    "output",
    "the pruned model (default: MODEL.pruned.onnx beside the model)",
    metavar="PATH",
    short="-o",
    file=True,
)
PLAN_OUT = Option(
    "plan_out", "the plan (default: *.plan.json beside the output)", metavar="PATH", file=True
)
SAYING: tuple[Option, ...] = (
    Option("json", "one JSON document on stdout, nothing else", bool, default=False),
    Option("quiet", "print nothing but errors", bool, short="-q", default=False),
    Option("verbose", "log to stderr; twice for debugging", None, short="-v", default=0),
)
MAIN: Mapping[str, tuple[Option, ...]] = {
    "choosing": CHOOSING,
    "analysis": FREEING,
    "data": DATA,
    "proof and measurement": PROVING,
    "output": (OUTPUT, PLAN_OUT, *SAYING),
}


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


def choosing_options(space: argparse.Namespace, overrides: Mapping[str, Override]) -> Options:
    """How to choose. Raises UsageError for unknown components."""
    from prunec.compiler.extensions import extended
    from prunec.compiler.spec import parse
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.pipeline import Options
    from prunec.passes.solvers import SOLVERS

    return Options(
        criterion=parse(space.score, extended(CRITERIA, "prunec.criteria"), "criterion"),
        solver=parse(space.solver, extended(SOLVERS, "prunec.solvers"), "solver"),
        align=space.align,
        min_keep=space.min_keep,
        keep=tuple(space.keep),
        only=tuple(space.only),
        overrides=overrides,
        max_gap=space.max_gap,
        exponent=space.exponent,
    )


def run_settings(space: argparse.Namespace) -> Settings:
    """What to do besides choosing; options that a command does not have keep their defaults."""
    from prunec.compiler.freedom import Freedom
    from prunec.frontends.bindings import parse_shapes
    from prunec.runtime.compile import Settings
    from prunec.runtime.data import DataSpec

    known = vars(space)
    data = None
    if known.get("data") is not None:
        data = DataSpec(
            path=space.data,
            mean=space.mean or (),
            std=space.std or (),
            resize=space.resize,
            limit=space.samples,
        )
    elif any(known.get(key) is not None for key in ("mean", "std", "resize", "samples")):
        raise UsageError("--mean, --std, --resize and --samples need --data")
    direct = ("verify", "bench", "strict", "provider", "threads")
    return Settings(
        shapes=parse_shapes(space.shape),
        data=data,
        rules=tuple(known.get("rules") or ()),
        freedom=Freedom(**{k: bool(known.get(k)) for k in ("residual", "heads")}),
        **{key: known[key] for key in direct if key in known},
    )


def components_help() -> str:
    """Every criterion and solver with its options, their defaults and what it does."""
    from prunec.compiler.spec import describe
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.solvers import SOLVERS

    parts = (("criteria (--score)", CRITERIA), ("solvers (--solver)", SOLVERS))
    return "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {line}" for line in describe(table).splitlines())
        for title, table in parts
    )
