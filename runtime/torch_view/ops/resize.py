"""Resize and Upsample: every axis by itself, as a weighted sum of a few of its positions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, aligned, ints

Floats = NDArray[np.float64]
LINEAR: Mapping[int, str] = {3: "linear", 4: "bilinear", 5: "trilinear"}
NEAREST: Mapping[str, Callable[[Floats], Floats]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
}


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: how it is resized. crop: of tf_crop_and_resize."""

    size: int
    out: int
    scale: float
    mode: str
    coordinates: str
    nearest: str
    cubic: float
    antialias: bool
    exclude: bool
    crop: tuple[float, float]

    def sources(self) -> Floats:
        """Where each output position lies in the input; (out,)."""
        x, n, m = np.arange(self.out, dtype=np.float32), self.size, self.out
        scale = np.float32(self.scale)
        match self.coordinates:
            case "align_corners":
                at = x * np.float32((n - 1) / (m - 1)) if m > 1 else x * 0
            case "asymmetric":
                at = x / scale
            case "tf_half_pixel_for_nn":
                at = (x + 0.5) / scale
            case "pytorch_half_pixel" if m == 1:
                at = x * 0
            case "half_pixel_symmetric":
                adjustment = m / (self.scale * n)
                at = n / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5
            case "tf_crop_and_resize":
                first, last = self.crop
                spread = (last - first) * (n - 1)
                middle = 0.5 * (first + last) * (n - 1)
                at = first * (n - 1) + x * spread / (m - 1) if m > 1 else x * 0 + middle
            case _:
                at = (x + 0.5) / scale - np.float32(0.5)
        return np.asarray(at, np.float64)


@functools.lru_cache(maxsize=256)
def _taps(axis: _Axis) -> tuple[NDArray[np.int64], Floats]:
    """Positions read and their weights, both (out, taps). Source: ONNX Resize's reference."""
    at = axis.sources()
    if axis.mode == "nearest":
        rounded = at
        if axis.nearest == "simple":  # before operator set 11
            rounded = np.ceil(at) if axis.scale < 1 else np.floor(at)
        else:
            rounded = NEAREST[axis.nearest](at)
        index = np.clip(rounded, 0, axis.size - 1).astype(np.int64)
        return index[:, None], np.ones((axis.out, 1))
    reach = 1 if axis.mode == "linear" else 2
    stretch = min(axis.scale, 1.0) if axis.antialias else 1.0
    width = math.ceil(reach / stretch)
    index = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - width, width + 1)
    distance = np.abs(index - at[:, None]) * stretch
    kernel = np.clip(1 - distance, 0, 1) if reach == 1 else _cubic(distance, axis.cubic)
    if axis.exclude:
        kernel = np.where((index < 0) | (index >= axis.size), 0.0, kernel)
    return np.clip(index, 0, axis.size - 1), kernel / kernel.sum(1, keepdims=True)


def _cubic(d: Floats, a: float) -> Floats:
    """Keys' cubic convolution kernel at distances d."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resize(
    call: Call,
    x: Tensor,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Tensor:
    """ONNX Resize since operator set 11."""
    axes = [a % x.ndim for a in call.get("axes") or range(x.ndim)]
    factors, outs = _amounts(call, [x.shape[a] for a in axes], scales, sizes)
    coordinates = call.get("coordinate_transformation_mode", "half_pixel")
    crops = [] if roi is None else np.reshape(roi, -1).tolist()
    changed = []
    for k, axis in enumerate(axes):
        crop = (crops[k], crops[k + len(axes)]) if len(crops) == 2 * len(axes) else (0.0, 1.0)
        plan = _Axis(
            size=x.shape[axis],
            out=outs[k],
            scale=factors[k],
            mode=call.get("mode", "nearest"),
            coordinates=coordinates,
            nearest=call.get("nearest_mode", "round_prefer_floor"),
            cubic=call.get("cubic_coeff_a", -0.75),
            antialias=bool(call.get("antialias", 0)),
            exclude=bool(call.get("exclude_outside", 0)),
            crop=crop,
        )
        if outs[k] != x.shape[axis] or factors[k] != 1 or coordinates == "tf_crop_and_resize":
            changed.append((axis, plan))
    if _is_torchs(x, changed):
        size = [{a: p.out for a, p in changed}.get(k, x.shape[k]) for k in range(2, x.ndim)]
        corners = coordinates == "align_corners"
        return F.interpolate(x, size, mode=LINEAR[x.ndim], align_corners=corners)
    outside = call.get("extrapolation_value", 0.0)
    return _along(x, changed, outside)


def _amounts(
    call: Call, have: Sequence[int], scales: Array | None, sizes: Array | None
) -> tuple[list[float], list[int]]:
    """Scale and size of each resized axis."""
    if sizes is None or not sizes.size:
        assert scales is not None, call.name
        factors = [float(f) for f in scales]
        return factors, [math.floor(n * np.float32(f)) for n, f in zip(have, factors, strict=True)]
    outs = list(ints(sizes))
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [m / n for m, n in zip(outs, have, strict=True)], outs
    choose = min if policy == "not_larger" else max
    factor = choose(m / n for m, n in zip(outs, have, strict=True))
    return [factor] * len(have), [math.floor(n * factor + 0.5) for n in have]


def _is_torchs(x: Tensor, changed: Sequence[tuple[int, _Axis]]) -> bool:
    """Whether torch's own linear interpolation is the same, which is faster."""
    return x.ndim in LINEAR and all(
        axis >= 2
        and plan.mode == "linear"
        and not plan.antialias
        and not plan.exclude
        and plan.coordinates in ("half_pixel", "align_corners")
        and math.isclose(plan.out, plan.size * plan.scale, rel_tol=1e-6)
        for axis, plan in changed
    )


def _along(x: Tensor, changed: Sequence[tuple[int, _Axis]], outside: float) -> Tensor:
    for axis, plan in changed:
        index, weight = _taps(plan)
        at = torch.from_numpy(index).to(x.device)
        y: Any = 0
        for tap in range(index.shape[1]):
            part = x.index_select(axis, at[:, tap])
            if plan.mode != "nearest":
                share = torch.from_numpy(weight[:, tap].copy()).to(x)
                part = part * aligned(share, x.ndim, axis)
            y = y + part if tap else part
        if plan.coordinates == "tf_crop_and_resize":
            sources = plan.sources()
            beyond = torch.from_numpy((sources < 0) | (sources > plan.size - 1)).to(x.device)
            y = torch.where(aligned(beyond, x.ndim, axis), torch.full_like(y, outside), y)
        x = y
    return x


def upsample(call: Call, x: Tensor, scales: Array | None = None) -> Tensor:
    """ONNX Upsample, and Resize of operator set 10: asymmetric."""
    factors = call.get("scales") if scales is None else scales
    told = {
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "simple",
        "mode": call.get("mode", "nearest"),
    }
    again = Call(call.op, call.name, 11, 1, told)
    return resize(again, x, None, np.asarray(factors, np.float32))


def resize_of_any_set(call: Call, x: Tensor, *amounts: Array | None) -> Tensor:
    """ONNX Resize; in operator set 10 the second input is the scales."""
    return upsample(call, x, *amounts) if call.version < 11 else resize(call, x, *amounts)


ROWS: Mapping[str, Row] = {
    "Resize": Row(resize_of_any_set, host=frozenset([1, 2, 3])),
    "Upsample": Row(upsample, host=frozenset([1])),
}
