"""PyTorch in: modules become models that keep parameter names and BatchNormalization nodes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from prunec.compiler.errors import MissingDependencyError, ModelError, UsageError, first_line
from prunec.frontends.onnx import load
from prunec.frontends.structure import graphs_of

if TYPE_CHECKING:
    import torch

DEFAULT_OPSET = 17


def from_torch(
    module: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    *,
    dynamic_batch: bool = True,
    opset: int = DEFAULT_OPSET,
) -> ir.Model:
    """Export a module for pruning.

    Initializers are named as in `module.state_dict()` and BatchNormalization is not folded, so
    that a plan can be applied to the state dict. dynamic_batch: axis 0 of inputs and outputs is
    symbolic. The module is left as found. Raises MissingDependencyError without torch, ModelError
    where the exporter fails.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"from_torch needs a torch.nn.Module, not {type(module).__name__}")
    if not isinstance(example_inputs, tuple) or not example_inputs:
        raise UsageError("from_torch needs example inputs as a tuple, such as (image,)")
    inputs = [f"input_{k}" if k else "input" for k in range(len(example_inputs))]
    axes = {
        name: {0: "batch"}
        for name, value in zip(inputs, example_inputs, strict=True)
        if isinstance(value, torch.Tensor) and value.dim()
    }
    buffer = io.BytesIO()
    with _as_found(module), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.eval()
        try:
            torch.onnx.export(
                _held(module),
                example_inputs,
                buffer,
                # The legacy exporter is the one that keeps both names and BatchNormalization.
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                opset_version=opset,
                input_names=inputs,
                dynamic_axes=axes if dynamic_batch else None,
            )
        except Exception as error:  # the exporter runs user code: anything can come out
            what = f"{type(module).__name__}: torch cannot export it"
            raise ModelError(f"{what}: {first_line(error)}") from error
    proto = onnx.ModelProto.FromString(buffer.getvalue())
    _release_names(proto)
    return load(proto)


def _held(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside one that is in training mode.

    For a root in evaluation mode the exporter merges parameters of equal contents, and two fresh
    BatchNormalizations would come out sharing a weight.
    """
    holder: Any = _torch().nn.Module()
    holder.held = module
    holder.forward = module.__call__
    return holder  # type: ignore[no-any-return]  # torch has types only where it is installed


def _release_names(proto: onnx.ModelProto) -> None:
    """Take the holder out of all names: `held.conv.weight`, `/held/conv/Conv`."""

    def released(name: str) -> str:
        return name.removeprefix("held.") if name[:1] != "/" else name.replace("/held/", "/", 1)

    for graph in graphs_of(proto):
        for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
            named.name = released(named.name)
        for node in graph.node:
            node.name = released(node.name)
            node.input[:] = [released(name) for name in node.input]
            node.output[:] = [released(name) for name in node.output]


@contextlib.contextmanager
def _as_found(module: torch.nn.Module) -> Iterator[None]:
    """Restore modes and settings, and keep torch's own logging off the terminal."""
    modes = [(part, part.training) for part in module.modules()]
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    attention = _torch().backends.mha
    fused = attention.get_fastpath_enabled()
    attention.set_fastpath_enabled(False)  # its operator has no ONNX form
    try:
        yield
    finally:
        attention.set_fastpath_enabled(fused)
        log.setLevel(level)
        for part, training in modes:
            part.training = training


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "torch is not installed: pip install 'prunec[torch]'"
        ) from error
    return torch
