"""An ONNX graph as a trainable torch.nn.Module, interpreted op by op."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from prunec.compiler.errors import UsageError
from prunec.compiler.ops import op_key
from prunec.compiler.spec import suggest
from prunec.frontends.naming import name_everything
from prunec.frontends.onnx import load
from prunec.runtime.torch_view.program import Held, Kind, Program, Schedule, compiled
from prunec.runtime.torch_view.row import Array
from prunec.runtime.torch_view.run import Edits, Run
from prunec.runtime.torch_view.tensors import from_numpy, to_numpy, torch_type
from prunec.runtime.torch_view.weights import state_names

NO_EDITS: Edits = MappingProxyType({})


def torch_view(model: ir.Model | str | os.PathLike[str] | bytes | onnx.ModelProto) -> TorchView:
    """A model as a torch module that computes the same, on any device.

    Raises ModelError, naming the node, where an operator has no row (If, Loop and Scan have none).
    """
    if not isinstance(model, ir.Model):
        return TorchView(compiled(load(model)))
    source = model.clone()
    name_everything(source)
    return TorchView(compiled(source))


class TorchView(nn.Module):
    """The module: weights are parameters, running statistics buffers, both by initializer name.

    Constants that are not trained lie in buffers that no state dict holds.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._names = state_names(
            (*program.stored.parameters, *program.stored.statistics), TorchView
        )
        self._places: dict[str, tuple[nn.Module, str]] = {}  # value -> module and attribute
        statistics = set(program.stored.statistics)
        for state, name in self._names.items():
            tensor = from_numpy(program.tensors[name].numpy())
            *path, last = state.split(".")
            holder: nn.Module = self
            for part in path:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            if name in statistics:
                holder.register_buffer(last, tensor)
            else:
                holder.register_parameter(last, nn.Parameter(tensor))
            self._places[name] = (holder, last)
        self._constants = nn.Module()
        self._buffers_of: dict[str, str] = {}  # constant -> buffer in self._constants
        for name in _read_as_tensors(program):
            held = program.constants[name]
            attribute = f"c{len(self._buffers_of)}"
            tensor = held if isinstance(held, Tensor) else from_numpy(held)
            self._constants.register_buffer(attribute, tensor, persistent=False)
            self._buffers_of[name] = attribute
        self._schedules: dict[tuple[str, ...], Schedule] = {}

    @property
    def names(self) -> Mapping[str, str]:
        """State-dict name -> initializer name, or that of a Constant node's output."""
        return MappingProxyType(self._names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Graph inputs that must be fed."""
        return self._program.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Graph outputs."""
        return self._program.outputs

    @property
    def computed(self) -> tuple[str, ...]:
        """Values that steps compute, in their order."""
        return tuple(n for step in self._program.steps for n in step.writes if n is not None)

    def forward(
        self,
        feeds: Mapping[str, Tensor],
        wanted: Sequence[str] | None = None,
        edits: Edits = NO_EDITS,
    ) -> dict[str, Tensor]:
        """Values by name: the graph outputs, or those wanted.

        edits: value name -> function of that value, applied as soon as it is there (inputs and
        weights too); who reads it, and `wanted`, see the result. A key (node, position) edits what
        that node reads there, and nobody else. Only what `wanted` needs is computed, and a value
        is let go after its last reader. Raises UsageError, ModelError.
        """
        asked = self._program.outputs if wanted is None else tuple(wanted)
        schedule = self._schedule(asked)
        self._check(feeds, edits)
        stored = {n: getattr(self._constants, buffer) for n, buffer in self._buffers_of.items()}
        given: dict[str, Held] = dict(self._program.constants)
        given.update({n: stored[n] for n in self._buffers_of if isinstance(given[n], Tensor)})
        given.update({n: getattr(holder, last) for n, (holder, last) in self._places.items()})
        run = Run({**given, **feeds}, stored, edits, self._device(feeds), self.training)
        run.carry_out(schedule)
        return run.wanted(asked)

    def to_model(self) -> ir.Model:
        """A clone of the source model with the present weights, in their original types."""
        model = self._program.source.clone()
        literals = {
            str(node.outputs[0].name): node for node in model.graph if op_key(node) == "Constant"
        }
        for name, (holder, attribute) in self._places.items():
            tensor: Tensor = getattr(holder, attribute)
            before = self._program.tensors[name]
            present = to_numpy(tensor.detach().to(torch_type(before.dtype)))
            stored = ir.Tensor(np.ascontiguousarray(present), dtype=before.dtype, name=before.name)
            if name in model.graph.initializers:
                model.graph.initializers[name].const_value = stored
            else:
                literals[name].attributes["value"] = ir.AttrTensor("value", stored)
        return model

    def _schedule(self, wanted: tuple[str, ...]) -> Schedule:
        if wanted not in self._schedules:
            self._schedules[wanted] = self._program.schedule(wanted)
        return self._schedules[wanted]

    def _device(self, feeds: Mapping[str, Tensor]) -> torch.device:
        for tensor in (*feeds.values(), *self.parameters()):
            return tensor.device
        return torch.device("cpu")

    def _check(self, feeds: Mapping[str, Tensor], edits: Edits) -> None:
        missing = [name for name in self._program.inputs if name not in feeds]
        if missing:
            raise UsageError(f"input {missing[0]!r} is not fed{suggest(missing[0], feeds)}")
        for name in edits:
            if isinstance(name, tuple):
                if name[0] not in self._program.nodes:
                    raise UsageError(f"no node {name[0]!r} whose input could be edited")
                continue
            if name not in self._program.values:
                raise UsageError(f"no value {name!r} to edit{suggest(name, self._program.values)}")
            if name in self._program.constants:
                raise UsageError(f"value {name!r} is a constant and cannot be edited")


def _read_as_tensors(program: Program) -> list[str]:
    """Constants that are tensors, or that a step takes as one."""
    found = {name for name, held in program.constants.items() if isinstance(held, Tensor)}
    asked = set(program.outputs)
    for step in program.steps:
        reads = zip(step.reads, step.kinds, strict=True)
        asked.update(name for name, kind in reads if name is not None and kind is not Kind.HOST)
    numbers = {
        name
        for name, held in program.constants.items()
        if not isinstance(held, Tensor) and name in asked and held.dtype.kind not in "OSU"
    }
    return sorted(found | numbers)


def as_feeds(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """numpy feeds as tensors, on the CPU. Raises ModelError for strings."""
    return {name: from_numpy(array) for name, array in arrays.items()}
