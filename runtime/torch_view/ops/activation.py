"""Activation functions, softmax, dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, number

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
BOUNDS = frozenset([1, 2])
PER_AXIS = 13  # since this operator set, softmax runs over one axis; before, over all from it on


def clip(
    call: Call, x: Tensor, low: Tensor | Array | None = None, high: Tensor | Array | None = None
) -> Tensor:
    """ONNX Clip; bounds are attributes before operator set 11, inputs since."""
    least = call.get("min") if low is None else low
    most = call.get("max") if high is None else high
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        x = x if least is None else torch.maximum(x, torch.as_tensor(least).to(x))
        return x if most is None else torch.minimum(x, torch.as_tensor(most).to(x))
    least, most = (None if n is None else np.reshape(n, -1)[0].item() for n in (least, most))
    return x if least is most is None else torch.clamp(x, least, most)


def elu(call: Call, x: Tensor) -> Tensor:
    """ONNX Elu."""
    return F.elu(x, call.get("alpha", 1.0))


def celu(call: Call, x: Tensor) -> Tensor:
    """ONNX Celu."""
    return F.celu(x, call.get("alpha", 1.0))


def selu(call: Call, x: Tensor) -> Tensor:
    """ONNX Selu."""
    alpha, gamma = call.get("alpha", SELU_ALPHA), call.get("gamma", SELU_GAMMA)
    return torch.where(x > 0, gamma * x, gamma * alpha * torch.expm1(x.clamp(max=0)))


def leaky_relu(call: Call, x: Tensor) -> Tensor:
    """ONNX LeakyRelu."""
    return F.leaky_relu(x, call.get("alpha", 0.01))


def prelu(_: Call, x: Tensor, slope: Tensor) -> Tensor:
    """ONNX PRelu; the slope broadcasts to x."""
    return torch.where(x < 0, slope * x, x)


def gelu(call: Call, x: Tensor) -> Tensor:
    """ONNX Gelu."""
    return F.gelu(x, approximate=call.get("approximate", "none"))


def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """ONNX HardSigmoid."""
    return (call.get("alpha", 0.2) * x + call.get("beta", 0.5)).clamp(0, 1)


def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    """ONNX ThresholdedRelu."""
    return torch.where(x > call.get("alpha", 1.0), x, torch.zeros_like(x))


def shrink(call: Call, x: Tensor) -> Tensor:
    """ONNX Shrink."""
    bias, bound, zero = call.get("bias", 0.0), call.get("lambd", 0.5), torch.zeros_like(x)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, zero))


def swish(call: Call, x: Tensor) -> Tensor:
    """ONNX Swish: x sigmoid(alpha x)."""
    return x * torch.sigmoid(call.get("alpha", 1.0) * x)


def _over(call: Call, x: Tensor) -> tuple[Tensor, int]:
    """What a softmax runs over, as a view of x and its axis."""
    axis = call.get("axis", -1 if call.version >= PER_AXIS else 1)
    if call.version >= PER_AXIS:
        return x, axis
    return x.reshape(math.prod(x.shape[: axis % x.ndim]), -1), 1


def softmax(call: Call, x: Tensor) -> Tensor:
    """ONNX Softmax."""
    rows, axis = _over(call, x)
    return torch.softmax(rows, axis).reshape(x.shape)


def log_softmax(call: Call, x: Tensor) -> Tensor:
    """ONNX LogSoftmax."""
    rows, axis = _over(call, x)
    return torch.log_softmax(rows, axis).reshape(x.shape)


def hardmax(call: Call, x: Tensor) -> Tensor:
    """ONNX Hardmax: 1 at the first largest element, 0 elsewhere."""
    rows, axis = _over(call, x)
    first = rows.argmax(axis, keepdim=True)
    return torch.zeros_like(rows).scatter(axis, first, 1).reshape(x.shape)


def dropout(
    call: Call, x: Tensor, ratio: Array | None = None, _: Array | None = None, *, training: bool
) -> tuple[Tensor, Tensor]:
    """ONNX Dropout, active in training only, whatever the node's training_mode says."""
    share = call.get("ratio", 0.5) if ratio is None else number(ratio)
    if not training or not share:
        return x, torch.ones_like(x, dtype=torch.bool)
    kept = torch.rand_like(x) >= share
    return x * kept / (1 - share), kept


def _plain(function: object) -> Row:
    return Row(lambda _, x: function(x))  # type: ignore[operator]


ROWS: Mapping[str, Row] = {
    "Celu": Row(celu),
    "Clip": Row(clip, either=BOUNDS, amounts=BOUNDS),
    "Dropout": Row(dropout, host=frozenset([1, 2]), modal=True),
    "Elu": Row(elu),
    "Gelu": Row(gelu),
    "HardSigmoid": Row(hard_sigmoid),
    "HardSwish": _plain(F.hardswish),
    "Hardmax": Row(hardmax),
    "LeakyRelu": Row(leaky_relu),
    "LogSoftmax": Row(log_softmax),
    "Mish": _plain(F.mish),
    "PRelu": Row(prelu, weights=frozenset([1])),
    "Relu": _plain(F.relu),
    "Selu": Row(selu),
    "Shrink": Row(shrink),
    "Sigmoid": _plain(torch.sigmoid),
    "Softmax": Row(softmax),
    "Softplus": _plain(F.softplus),
    "Softsign": _plain(F.softsign),
    "Swish": Row(swish),
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": Row(thresholded_relu),
}
