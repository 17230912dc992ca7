"""Sampling at computed positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, ints

MODES: Mapping[str, str] = {"linear": "bilinear", "cubic": "bicubic"}


def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    """ONNX GridSample over two or three spatial axes."""
    mode = call.get("mode", "linear")
    return F.grid_sample(
        x,
        grid,
        MODES.get(mode, mode),
        call.get("padding_mode", "zeros"),
        bool(call.get("align_corners", 0)),
    )


def affine_grid(call: Call, theta: Tensor, size: Array) -> Tensor:
    """ONNX AffineGrid."""
    return F.affine_grid(theta, list(ints(size)), bool(call.get("align_corners", 0)))


def roi_align(call: Call, x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
    """ONNX RoiAlign: ``x (N, C, H, W), rois (R, 4), batch (R,) -> (R, C, h, w)``."""
    h, w = call.get("output_height", 1), call.get("output_width", 1)
    default = "half_pixel" if call.version >= 16 else "output_half_pixel"
    half = call.get("coordinate_transformation_mode", default) == "half_pixel"
    # As in torchvision, boxes have no gradient: their corners decide which pixels are read.
    boxes = rois.detach() * call.get("spatial_scale", 1.0) - (0.5 if half else 0.0)
    parts = []
    for box, image in zip(boxes, x.index_select(0, batch.long()), strict=True):
        left, top, right, bottom = box.unbind()
        high, wide = bottom - top, right - left
        if not half:
            high, wide = high.clamp(min=1), wide.clamp(min=1)
        ratio = call.get("sampling_ratio", 0)
        rows = ratio or max(1, int(torch.ceil(high / h)))
        columns = ratio or max(1, int(torch.ceil(wide / w)))
        y = top + _middles(h * rows, x.device) * (high / (h * rows))
        across = left + _middles(w * columns, x.device) * (wide / (w * columns))
        samples = _bilinear(image, y, across)
        parts.append((samples, (rows, columns)))
    if not parts:
        return x.new_zeros(0, x.shape[1], h, w)
    pooled = []
    for samples, (rows, columns) in parts:
        cells = samples.reshape(x.shape[1], h, rows, w, columns, -1)
        most = call.get("mode", "avg") == "max"
        pooled.append(cells.amax((2, 4, 5)) if most else cells.sum(-1).mean((2, 4)))
    return torch.stack(pooled)


def _middles(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device) + 0.5


def _bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The four weighted neighbours of each point: (C, len(y), len(x), 4); outside is zero."""
    y0, low, high, share = _neighbours(y, image.shape[1])
    x0, left, right, part = _neighbours(x, image.shape[2])
    inside = (y0[:, None] & x0[None, :]).to(image.dtype)
    corners = []
    for row, a in ((low, 1 - share), (high, share)):
        for column, b in ((left, 1 - part), (right, part)):
            weight = a[:, None] * b[None, :] * inside
            corners.append(image[:, row[:, None], column[None, :]] * weight)
    return torch.stack(corners, -1)


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inside = (at >= -1) & (at <= size)
    held = at.clamp(0, size - 1)
    low = held.detach().floor().long()
    high = (low + 1).clamp(max=size - 1)
    return inside, low, high, held - low


ROWS: Mapping[str, Row] = {
    "AffineGrid": Row(affine_grid, host=frozenset([1])),
    "GridSample": Row(grid_sample),
    "RoiAlign": Row(roi_align),
}
