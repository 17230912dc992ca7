"""Operators that freeze all they touch, each with the reason that users read."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.compiler.reasons import Reason

_TEXT = "works on strings"
_DRAW = "draws random numbers from all that it reads"
_SIGNAL = "makes a table from a few numbers"
_LOSS = "a loss reads every class"
_SEQUENCE = "a sequence that changes while the model runs"
_ABSENT = "a value that may be absent"
_DROPPED = "the standard dropped it at opset 10, and with it any word on what it does"

# Experiments of the first versions of ONNX, which files of that age still have.
EXPERIMENTS = (
    "Affine",
    "Crop",
    "DynamicSlice",
    "GRUUnit",
    "GivenTensorFill",
    "ImageScaler",
    "ParametricSoftplus",
    "Scale",
    "ScaledTanh",
)

OPTIONALS = ("Optional", "OptionalGetElement", "OptionalHasElement")
SEQUENCES = (
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SequenceMap",
)

# Quantised operators that hold several layers, or whose weights are packed for one machine.
PACKED = (
    "com.microsoft::DynamicQuantizeLSTM",
    "com.microsoft::MatMulBnb4",
    "com.microsoft::MatMulFpQ4",
    "com.microsoft::QAttention",
    "com.microsoft::QEmbedLayerNormalization",
    "com.microsoft::QMoE",
    "com.microsoft::QOrderedAttention",
    "com.microsoft::QOrderedGelu",
    "com.microsoft::QOrderedLayerNormalization",
    "com.microsoft::QOrderedLongformerAttention",
    "com.microsoft::QOrderedMatMul",
)

# Keys are op types of the default domain, or "domain::*" for all of another domain.
STAYS: Mapping[str, tuple[Reason, str]] = {
    "AffineGrid": (Reason.SPATIAL_AXIS, "makes positions in space"),
    "BlackmanWindow": (Reason.SPATIAL_AXIS, _SIGNAL),
    "CausalConvWithState": (Reason.UNSUPPORTED_FORM, "its state crosses from call to call"),
    "Det": (Reason.ORDERED_AXIS, "a determinant needs every row and column"),
    "EyeLike": (Reason.ORDERED_AXIS, "ones stand where row and column have the same number"),
    "HammingWindow": (Reason.SPATIAL_AXIS, _SIGNAL),
    "HannWindow": (Reason.SPATIAL_AXIS, _SIGNAL),
    "ImageDecoder": (Reason.GRAPH_INPUT, "reads the bytes of a file"),
    "LinearAttention": (Reason.UNSUPPORTED_FORM, "its state crosses from call to call"),
    "MelWeightMatrix": (Reason.SPATIAL_AXIS, _SIGNAL),
    "Multinomial": (Reason.ORDERED_AXIS, _DRAW),
    "NegativeLogLikelihoodLoss": (Reason.ORDERED_AXIS, _LOSS),
    "NonMaxSuppression": (Reason.ORDERED_AXIS, "returns positions of boxes, by class"),
    "NonZero": (Reason.ORDERED_AXIS, "returns positions on every axis"),
    "RandomNormal": (Reason.NO_WEIGHT, "random numbers of a fixed shape"),
    "RandomUniform": (Reason.NO_WEIGHT, "random numbers of a fixed shape"),
    "RegexFullMatch": (Reason.GRAPH_INPUT, _TEXT),
    "SoftmaxCrossEntropyLoss": (Reason.ORDERED_AXIS, _LOSS),
    "SplitToSequence": (Reason.DYNAMIC_SHAPE, "pieces of sizes that depend on the data"),
    "StringConcat": (Reason.GRAPH_INPUT, _TEXT),
    "StringNormalizer": (Reason.GRAPH_INPUT, _TEXT),
    "StringSplit": (Reason.GRAPH_INPUT, _TEXT),
    "TfIdfVectorizer": (Reason.ORDERED_AXIS, "counts tokens by their number"),
    "Unique": (Reason.ORDERED_AXIS, "compares and sorts whole slices"),
    "ai.onnx.ml::*": (Reason.ORDERED_AXIS, "classical learning reads features by their number"),
    "ai.onnx.preview.training::*": (Reason.UNSUPPORTED_FORM, "an optimiser's step"),
    **dict.fromkeys(OPTIONALS, (Reason.UNSUPPORTED_FORM, _ABSENT)),
    **dict.fromkeys(SEQUENCES, (Reason.DYNAMIC_SHAPE, _SEQUENCE)),
    **dict.fromkeys(EXPERIMENTS, (Reason.UNSUPPORTED_FORM, _DROPPED)),
    **dict.fromkeys(PACKED, (Reason.PACKED_BLOCK, "its weights are packed for one kernel")),
}


def why_it_stays(op: str) -> tuple[Reason, str]:
    """Reason and sentence for an operator without a rule, as `op` or `domain::op`."""
    domain = f"{op.rpartition('::')[0]}::*"
    return STAYS.get(op) or STAYS.get(domain) or (Reason.UNKNOWN_OP, "no coupling rule")
