"""Fourier transforms; complex numbers are a last axis of two."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, number


def _complex(x: Tensor) -> Tensor:
    if x.shape[-1] == 1:
        return x.squeeze(-1)
    return torch.view_as_complex(x.contiguous())


def dft(call: Call, x: Tensor, length: Array | None = None, axis: Array | None = None) -> Tensor:
    """ONNX DFT; the axis is an attribute before operator set 20."""
    along = int(number(axis, -2)) if call.version >= 20 else call.get("axis", 1)
    place = along if along >= 0 else along + x.ndim
    n = x.shape[place] if length is None else int(number(length))
    inverse, onesided = bool(call.get("inverse", 0)), bool(call.get("onesided", 0))
    y = _complex(x)
    if inverse and onesided:
        whole: Tensor = torch.fft.irfft(y, n, place)
        return whole.unsqueeze(-1)
    z = torch.fft.ifft(y, n, place) if inverse else torch.fft.fft(y, n, place)
    if onesided:
        z = z.narrow(place, 0, n // 2 + 1)
    return torch.view_as_real(z)


def stft(
    call: Call,
    x: Tensor,
    step: Array,
    window: Tensor | None = None,
    length: Array | None = None,
) -> Tensor:
    """ONNX STFT: ``x (N, L, 1 or 2) -> (N, frames, bins, 2)``."""
    size = window.shape[0] if window is not None else 0
    n = int(number(length)) if length is not None else size
    frames = _complex(x).unfold(1, n, int(number(step)))
    y = torch.fft.fft(frames if window is None else frames * window)
    bins = n // 2 + 1 if call.get("onesided", 1) else n
    return torch.view_as_real(y.narrow(-1, 0, bins))


ROWS: Mapping[str, Row] = {
    "DFT": Row(dft, host=frozenset([1, 2])),
    "STFT": Row(stft, host=frozenset([1, 3])),
}
