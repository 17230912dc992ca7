"""The operators that were seen in real files: each has a rule, or a stated reason to stay."""

from __future__ import annotations

import pytest

from prunec.compiler.constants import EVALUATORS
from prunec.compiler.reasons import Reason
from prunec.compiler.rules import RULES
from prunec.compiler.rules.stays import STAYS, why_it_stays

# Of 807 models, 621 of them written by PyTorch's two exporters (torchvision, timm, Hugging Face
# and small ones), 186 found in public repositories, by many producers.
SEEN = """
Abs Add Affine AffineGrid And ArgMax Attention AveragePool BatchNormalization Cast CastLike Ceil
Clip Col2Im Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos
Crop CumSum DFT DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal
Erf Exp Expand EyeLike Flatten GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity If ImageScaler
InstanceNormalization IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
Loop MatMul MatMulInteger Max MaxPool Min Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv
QLinearMatMul QuantizeLinear RNN RandomUniformLike Range Reciprocal ReduceL2 ReduceMax ReduceMean
ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Scan ScatterElements ScatterND
SequenceEmpty SequenceInsert Shape Sigmoid Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub
Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where
ai.onnx.ml::ArrayFeatureExtractor ai.onnx.ml::ZipMap
com.microsoft::Attention com.microsoft::BiasGelu com.microsoft::DequantizeLinear
com.microsoft::FastGelu com.microsoft::FusedGemm com.microsoft::Gelu
com.microsoft::MultiHeadAttention com.microsoft::QLinearAdd com.microsoft::QuantizeLinear
com.microsoft::SkipLayerNormalization
"""


@pytest.mark.parametrize("op", SEEN.split())
def test_an_operator_seen_has_a_rule_or_a_reason(op: str) -> None:
    reason, text = why_it_stays(op)
    assert op in RULES or op in EVALUATORS or reason is not Reason.UNKNOWN_OP
    assert text


def test_an_operator_that_nobody_knows_is_told_as_unknown() -> None:
    assert why_it_stays("example::Roll") == (Reason.UNKNOWN_OP, "no coupling rule")


def test_what_has_a_rule_needs_no_reason() -> None:
    assert not RULES.keys() & STAYS.keys()
