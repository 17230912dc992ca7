"""Tensors between numpy, as ONNX stores them, and torch."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from prunec.compiler.errors import ModelError
from prunec.runtime.torch_view.row import Array

# ONNX's element types that torch has; the others are read as the next wider one.
TORCH_TYPES: Mapping[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.int32,
    ir.DataType.UINT32: torch.int64,
    ir.DataType.UINT64: torch.int64,
    ir.DataType.INT2: torch.int8,
    ir.DataType.INT4: torch.int8,
    ir.DataType.UINT2: torch.uint8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
}
FLOATS = frozenset(
    [ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16]
)
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def torch_type(data_type: int) -> torch.dtype:
    """torch's element type for ONNX's. Raises ModelError for strings and 8-bit floats."""
    kind = ir.DataType(data_type)
    if kind not in TORCH_TYPES:
        raise ModelError(f"the torch view has no tensors of {kind.name.lower()}")
    return TORCH_TYPES[kind]


def from_numpy(array: Array) -> Tensor:
    """A tensor of its own with the contents of an array. Raises ModelError for strings."""
    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if array.dtype.kind in "OSU":
        raise ModelError("the torch view has no tensors of strings")
    wanted = torch_type(ir.DataType.from_numpy(array.dtype))
    # numpy's own types are copied as they are; those of ml_dtypes here are small integers.
    known = array.dtype.kind in "fcb" or array.dtype.name in ("int8", "int16", "int32", "int64")
    return torch.tensor(array if known else array.astype(np.int64), dtype=wanted)


def to_numpy(tensor: Tensor) -> Array:
    """The contents of a tensor, on the host; waits for the device."""
    found = tensor.detach().cpu()
    if found.dtype == torch.bfloat16:
        return found.contiguous().view(torch.int16).numpy().view(_BFLOAT16)
    return np.asarray(found.numpy())
