"""Options of the command line: one table for flags, keys of the configuration file and help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

# Names only: importing the components costs more than all of `--help`. A test holds them equal
# to CRITERIA and SOLVERS.
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "criteria": (
        "magnitude",
        "bn_scale",
        "random",
        "activation",
        "reconstruction",
        "taylor",
        "fisher",
        "gate",
    ),
    "recoveries": ("batchnorm", "bias", "least-squares"),
    "solvers": ("auto", "milp", "greedy"),
    "worths": ("share", "sum", "equal", "gator"),
    "schedules": ("one-shot", "layerwise", "stepwise"),
    "objectives": ("separable", "pairwise"),
    "trained": ("gate", "masks"),
    "permutations": ("search", "grps", "sort", "same"),
    "folds": ("auto", "joint", "free"),
    "ways to choose groups": ("auto", "max-cost"),
    "kernel scores": ("magnitude", "activation", "taylor", "fisher"),
    "pairwise solvers": ("auto", "lagrangian", "milp", "greedy"),
}
LATENCY_MODELS = ("lut", "m5", "m6", "half-edge")
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


def positive(what: str) -> Convert:
    """A converter to numbers above 0; what: of which kind, for messages."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be {what} above 0, not {text!r}")
        return value

    return number


seconds = positive("a number of seconds")
speedup = positive("a factor")


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
        "params, bytes, activations, memory or latency. flops and macs are the same resource: one "
        "multiply-accumulate = 1. params: elements of weights, quantised ones included, without "
        "running statistics, scales and zero points. bytes: of those weights, 4 bits as half a "
        "byte. activations: elements that nodes compute. memory: bytes of activations that are "
        "live at once, at the peak. V up to 1 is a ratio of the dense model's total over the whole "
        "graph (0.46 or 46%%); larger ones are absolute (1.9G, 4MB). latency: what onnxruntime "
        "takes for one run, predicted from a profile (0.6, 8ms, 500us)",
        metavar="R=V[,R=V]",
        many=True,
    ),
    Option(
        "objective",
        "what is maximised: separable, a sum of scores of single channels; pairwise, the sum of "
        "|W| over the kept pairs of output and input channels of every weight, each weight divided "
        "by its Frobenius norm (normalise=none|sum|hyperedge for another way); then --score and "
        "--worth have no say",
        metavar="SPEC",
        default="separable",
    ),
    Option(
        "score",
        f"importance criterion, one of {', '.join(COMPONENTS['criteria'])}, with options in "
        "braces: magnitude{p=1}",
        metavar="SPEC",
        default="magnitude",
    ),
    Option(
        "scores",
        "a file of --save-scores: the scores in it are used instead of computing them, and --score "
        "is what it says",
        metavar="PATH",
        file=True,
    ),
    Option(
        "save_scores",
        "write the scores that were computed, for other budgets of the same model: JSON, or "
        "NumPy arrays where the name ends in .npz",
        metavar="PATH",
        file=True,
    ),
    Option(
        "solver",
        f"one of {', '.join(COMPONENTS['solvers'])}, with options in braces: "
        "milp{backend=cbc,gap=0.001,time_limit=30}; with --objective pairwise one of "
        f"{', '.join(COMPONENTS['pairwise solvers'])}: lagrangian{{kicks=100,seed=1}}",
        metavar="SPEC",
        default="auto",
    ),
    Option(
        "align",
        "keep multiples of N channels per hyperedge (default: min(8, max(1, size // 8)))",
        whole(1),
        "N",
    ),
    Option(
        "min_keep",
        "keep at least N channels per hyperedge; 0 lets whole residual branches vanish, all other "
        "hyperedges keep 1",
        whole(0),
        "N",
        default=1,
    ),
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
    Option(
        "worth",
        f"what a hyperedge is worth as a whole, auto or one of {', '.join(COMPONENTS['worths'])}: "
        "its share of the budgeted costs, the sum of its scores, the same for all, or Gator's "
        "weights gator{resource=params}; auto: sum where the criterion's scores are in one unit "
        "over the whole model, else share",
        metavar="SPEC",
        default="auto",
    ),
    Option(
        "schedule",
        f"in which steps channels leave, one of {', '.join(COMPONENTS['schedules'])}: at once; one "
        "hyperedge after the other; or all in stepwise{steps=4} steps; in between the model is "
        "recovered and scored again",
        metavar="SPEC",
        default="one-shot",
    ),
    Option(
        "edge_multipliers",
        "a JSON file of factors by hyperedge name: its channels count as so many times as dear as "
        "their cost says",
        metavar="PATH",
        file=True,
    ),
    Option(
        "gamma",
        "with --kernel-positions per-filter: channels may cost 1 / gamma of the budget in flops "
        "and params, zeroed positions make up for the rest; 1 zeroes nothing",
        share,
        "X",
        default=0.8,
    ),
    Option("max_gap", "fail unless the optimality gap is proven to be at most G", share, "G"),
    Option(
        "profile",
        "a file of `prunec profile` with the times that a latency budget adds up; without it they "
        "are measured for this run, which takes from seconds to minutes",
        metavar="PATH",
        file=True,
    ),
    Option(
        "latency_model",
        "how latency follows from what was measured: lut (a staircase through the measurements), "
        "m5, m6 (polynomials of each kernel's channels), half-edge (FLOPs with a factor per "
        "hyperedge)",
        choices=LATENCY_MODELS,
        default="lut",
    ),
    Option("batch", "of latency budgets, for symbolic first dimensions", whole(1), "N"),
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
    Option(
        "decouple",
        "let a residual branch write other channels than the stream carries, and blocks read fewer "
        "than arrive; costs a Pad or a Gather where they differ; needs --objective pairwise",
        bool,
        default=False,
    ),
    Option(
        "kernel_positions",
        "what may leave of convolution kernels: none; layer: whole rows and columns, the same for "
        "all filters of a layer, so that 3x3 becomes 1x3, 3x1 or 1x1, which runs faster; "
        "per-filter: other positions for each filter, which are zeroed and save no time",
        choices=("none", "layer", "per-filter"),
        default="none",
    ),
)
GROUPING: tuple[Option, ...] = (
    Option(
        "group_conv",
        "dense convolutions become grouped ones: G groups wherever G divides both numbers of "
        "channels; auto: how many is chosen under the budget, together with the channels "
        "(max-cost: by the published search); or a JSON file of node name: G. Numbers and files "
        "need no budget",
        metavar="G|auto|PATH",
    ),
    Option("max_per_group", "as many groups as leave N channels in each", whole(1), "N"),
    Option(
        "group_perm",
        f"how channels are put into groups, one of {', '.join(COMPONENTS['permutations'])}: as "
        "they stand, sorted by weight, the published greedy sort grps{iters=10}, or searched for",
        metavar="SPEC",
        default="search",
    ),
    Option(
        "group_fold",
        f"one of {', '.join(COMPONENTS['folds'])}: joint: one order of channels serves all "
        "convolutions that share them, and no Gather is left; joint{gathers=N}: at most N of them "
        "read their inputs in an order of their own, behind a Gather; free: each has its own best "
        "groups, and a Gather stands where orders differ; auto: joint, unless latency is budgeted",
        metavar="SPEC",
        default="auto",
    ),
    Option(
        "group_score",
        "what a kernel is worth when channels are put into groups, one of "
        f"{', '.join(COMPONENTS['kernel scores'])}",
        metavar="SPEC",
        default="magnitude",
    ),
    Option("min_group_width", "keep at least N channels per group", whole(1), "N", default=1),
    Option("max_groups", "of auto: at most N groups per convolution", whole(1), "N"),
    Option("depthwise", "auto may choose groups of one channel", bool, default=True),
    Option(
        "channels",
        "channels may be removed; --no-channels leaves the budget to groups and bits",
        bool,
        default=True,
    ),
    Option(
        "detect_groups",
        "convolutions whose weights are 0 off some blocks become grouped ones; loses nothing, "
        "needs no budget",
        bool,
        default=False,
    ),
    Option(
        "detect_dead",
        "channels that are always 0 are removed; loses nothing, needs no budget",
        bool,
        default=False,
    ),
)
IMAGES: tuple[Option, ...] = (
    Option("mean", "of images, per colour", numbers, "M,M,M"),
    Option("std", "of images, per colour", numbers, "S,S,S"),
    Option("resize", "shorter side of images, before the crop", whole(1), "N"),
)
DATA: tuple[Option, ...] = (
    Option(
        "data",
        "an .npz or .npy file, a folder of them, a folder of images, or module:function that "
        "yields feeds; for calibration and, with labels, accuracy",
        metavar="PATH",
        file=True,
    ),
    *IMAGES,
    Option("samples", "use at most N samples", whole(1), "N"),
)
RECOVER = Option(
    "recover",
    "how weights win accuracy back after slicing, without labels: auto, none or one of "
    f"{', '.join(COMPONENTS['recoveries'])}, with options in braces: least-squares{{mirror=true}}; "
    "auto: least-squares where there is --data",
    metavar="SPEC",
    default="auto",
)
QUANTIZE_EXCLUDE = Option(
    "quantize_exclude",
    "nodes and weights that stay float, by their names; hyperedge:REGEX means the weights of "
    "hyperedges; repeatable",
    metavar="REGEX",
    many=True,
)
QUANTISING: tuple[Option, ...] = (
    Option(
        "quantize",
        "quantise the result: w8a8, w4a8, w4a4, w8a16, weights=int8, weights=int4, with options in "
        "braces: w8a8{ranges=entropy,rounding=gptq}; a .json or .toml file; auto{choices=4+8}: "
        "bits of each weight are chosen together with the channels, under --budget bytes=...; or "
        "none",
        metavar="RECIPE",
    ),
    QUANTIZE_EXCLUDE,
)
METRIC = Option(
    "metric",
    "top1, top5 or module:function, several with commas or by repeating; the function is called "
    "with a batch's outputs by name and its labels and returns (sum, count); higher is better "
    "(default: top1 and, from six classes on, top5)",
    metavar="NAME",
    many=True,
)
EVALUATION: tuple[Option, ...] = (
    Option(
        "eval_data",
        "labelled data in the forms of --data, that accuracy is reported on (default: --data)",
        metavar="PATH",
        file=True,
    ),
    METRIC,
)
RUNNING: tuple[Option, ...] = (
    Option("threads", "of onnxruntime; 0 lets it choose", whole(0), "N", default=1),
    Option(
        "provider", "where models run", choices=("cpu", "cuda"), short="--device", default="cpu"
    ),
)
PROVING: tuple[Option, ...] = (
    Option("verify", "prove the result equal to the gated dense model", bool, default=True),
    Option("bench", "measure the latency of both models", bool, default=False),
    Option(
        "min_speedup",
        "measure, and write nothing (exit code 5) unless the result is at least X times as fast, "
        "by the lower end of the 95 %% interval",
        speedup,
        "X",
    ),
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
    "grouped convolutions": GROUPING,
    "analysis": FREEING,
    "data": (*DATA, RECOVER, *EVALUATION),
    "quantisation": QUANTISING,
    "proof and measurement": PROVING,
    "output": (OUTPUT, PLAN_OUT, *SAYING),
}
