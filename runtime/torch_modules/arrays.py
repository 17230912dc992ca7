"""Torch tensors as NumPy arrays and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_array(tensor: Tensor) -> NDArray[np.generic]:
    """The contents; bfloat16, which NumPy lacks, as float32."""
    host = tensor.detach().cpu()
    array: NDArray[np.generic] = (host.float() if host.dtype == torch.bfloat16 else host).numpy()
    return array


def to_tensor(array: NDArray[np.generic], like: Tensor) -> Tensor:
    """An array in the type and on the device of a tensor."""
    if array.dtype.kind not in "biuf":  # a bfloat16 of ml_dtypes
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array)).to(like.device, like.dtype)
