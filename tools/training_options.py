"""Options of what trains: data, what is learned, how."""

from __future__ import annotations

import argparse
import re

from prunec.tools.options import DATA, QUANTIZE_EXCLUDE, Option, positive, share, whole

PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def size(text: str) -> int:
    """Bytes: 512MB, 4G, 0.

    >>> size("512MB"), size("0"), size("1.5 G")
    (512000000, 0, 1500000000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a size such as 512MB or 4GB, not {text!r}")
    return int(float(found[1]) * PREFIXES[found[2]])


def decay(text: str) -> float:
    """A number from 0 to below 1."""
    number = share(text)
    if number == 1:
        raise argparse.ArgumentTypeError("must be below 1")
    return number


def not_negative(text: str) -> float:
    """A number from 0 on."""
    return 0.0 if text.strip() in ("0", "0.0") else float(positive("a number")(text))


SOURCES: tuple[Option, ...] = (
    Option(
        "data",
        "samples to train with: an .npz or .npy file, a folder of them or of images, WebDataset "
        "shards (shards-{000..009}.tar), or module:function that yields feeds or gives a "
        "torch.utils.data.Dataset",
        metavar="PATH",
        file=True,
    ),
    *(option for option in DATA if option.key in ("mean", "std", "resize", "samples")),
    Option(
        "validation",
        "share of the samples that is held out to choose the best epoch by; 0: the last one is "
        "taken",
        share,
        "X",
        default=0.05,
    ),
    Option(
        "eval_data",
        "samples to choose the best epoch by, instead of a share of --data",
        metavar="PATH",
        file=True,
    ),
    Option(
        "augment",
        "of images, one after the other: flip, crop{padding=4,mode=reflect}, erase{side=0.25}, "
        "brightness{strength=0.2}",
        metavar="SPEC,...",
        default="",
    ),
    Option(
        "memory",
        "samples up to this size are held in memory and drawn in any order; more are streamed",
        size,
        "SIZE",
        default=4 * 10**9,
    ),
    Option(
        "shuffle_buffer", "samples among which a stream draws the next", whole(1), "N", default=2048
    ),
    Option("workers", "processes that read images and datasets", whole(0), "N", default=0),
)
LEARNING: tuple[Option, ...] = (
    Option("teacher", "the dense model, whose outputs are matched", metavar="PATH", file=True),
    Option(
        "labels",
        "auto: used where the data has them; none: the teacher alone",
        choices=("auto", "none"),
        default="auto",
    ),
    Option(
        "alpha",
        "what the teacher counts beside labels, which count 1 - alpha",
        share,
        "X",
        default=0.9,
    ),
    Option(
        "temperature",
        "of the distributions that are compared",
        positive("a number"),
        "T",
        default=2.0,
    ),
    Option(
        "output_loss",
        "how outputs are compared: softmax: Kullback-Leibler divergence over the classes; mse: "
        "relative squared error; auto: softmax for (batch, classes), else mse",
        choices=("auto", "softmax", "mse"),
        default="auto",
    ),
    Option("smoothing", "of labels", decay, "X", default=0.0),
    Option(
        "features",
        "also match the values of both graphs whose names match; where channels were removed, "
        "--plan says which",
        metavar="REGEX",
        many=True,
    ),
    Option("feature_weight", "what these count", not_negative, "X", default=1.0),
    Option(
        "cache",
        "answers of the teacher that are kept, where samples come unchanged again; 0: none",
        size,
        "SIZE",
        default=512 * 10**6,
    ),
    Option("plan", "of the pruned model, for --features", metavar="PATH", file=True),
)
TRAINING: tuple[Option, ...] = (
    Option("epochs", "passes over the data", whole(1), "N", default=3),
    Option("steps", "so many optimizer steps instead of --epochs", whole(1), "N"),
    Option("batch", "samples per process and pass", whole(1), "N", default=128),
    Option("accumulate", "batches per optimizer step", whole(1), "N", default=1),
    Option(
        "optimizer",
        "adamw{weight_decay=0.01,beta1=0.9,beta2=0.999} or "
        "sgd{weight_decay=0.0005,momentum=0.9,nesterov=true}; norms and biases do not decay",
        metavar="SPEC",
        default="adamw",
    ),
    Option(
        "learning_rate", "the highest (default: adamw 0.001, sgd 0.02)", positive("a number"), "X"
    ),
    Option(
        "lr_schedule",
        "of the learning rate after the warm-up",
        choices=("cosine", "linear", "constant"),
        default="cosine",
    ),
    Option("warmup", "share of the steps in which the rate rises", share, "X", default=0.05),
    Option(
        "clip", "largest norm of all gradients together; 0: any", not_negative, "X", default=5.0
    ),
    Option(
        "ema",
        "decay per step of an average of the weights, which is evaluated and kept instead of the "
        "last ones; 0: none",
        decay,
        "X",
        default=0.0,
    ),
    Option(
        "freeze_norms",
        "keep the running statistics of norms, and use them instead of the batch's",
        bool,
        default=False,
    ),
    Option(
        "precision",
        "of the arithmetic; weights stay in float32",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
    ),
    Option("seed", "of everything that is drawn", whole(0), "N", default=0),
    Option(
        "device", "where models run; auto: cuda where there is one",
        choices=("auto", "cpu", "cuda"), default="auto",
    ),
    Option("threads", "of torch on the CPU; 0 lets it choose", whole(0), "N", default=0),
    Option(
        "checkpoint",
        "a folder in which the state is kept: after a kill the same command goes on from there and "
        "gives the same weights",
        metavar="DIR",
        file=True,
    ),
    Option(
        "checkpoint_steps", "how often, besides after each epoch", whole(1), "N", default=500
    ),
)  # fmt: skip
QUANTISING: tuple[Option, ...] = (
    Option(
        "quantize",
        "train the model as its integers will compute, and write those: w8a8, w4a4 ... with "
        "options in braces, or a .json or .toml file, as of prunec quantize",
        metavar="RECIPE",
    ),
    QUANTIZE_EXCLUDE,
    Option(
        "quantize_scales",
        "learned{rate=1}: trained with the weights, at so many times their rate; "
        "running{weight=1}: means of the ranges seen, the calibrated one counting as so many steps",
        metavar="SPEC",
        default="learned",
    ),
    Option(
        "quantize_start",
        "joint: from the first step on; published{weights=0.5,activations=0.05}: after so many "
        "epochs each",
        metavar="SPEC",
        default="joint",
    ),
    Option(
        "quantize_ends",
        "bits of the first and last layers, where that is more than the recipe says; 0: as it says",
        whole(0),
        "N",
        default=8,
    ),
    Option(
        "quantize_sums",
        "bits of what additions and pools but no layer with weights read, likewise",
        whole(0),
        "N",
        default=8,
    ),
    Option(
        "quantize_samples", "of the training data, to calibrate with", whole(1), "N", default=512
    ),
)
