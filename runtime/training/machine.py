"""The processes and devices of a run, through Accelerate."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from prunec.compiler.errors import MissingDependencyError, UsageError
from prunec.runtime.training.batch import Shard
from prunec.runtime.training.settings import PRECISIONS, TrainSettings


class Machine:
    """An Accelerator for one run: `accelerator`, `device`, this process's `shard`.

    `torchrun` says how many processes there are; without it there is one.
    """

    def __init__(self, settings: TrainSettings) -> None:
        """Join the other processes. Raises UsageError, MissingDependencyError."""
        cpu = uses_cpu(settings.device)
        joined = torch.distributed.is_available() and torch.distributed.is_initialized()
        if cpu and settings.precision == "float16":
            raise UsageError("--precision float16 needs a GPU; bfloat16 also runs on the CPU")
        self.accelerator = _accelerator(cpu, PRECISIONS[settings.precision])
        if not joined and self.accelerator.num_processes > 1:
            # Not earlier: a group that is joined anew finds the addresses of the one before.
            atexit.register(_leave)
        self.device: torch.device = self.accelerator.device
        self.shard = Shard(self.accelerator.process_index, self.accelerator.num_processes)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.shard.rank == 0

    def look_for_unused(self, unused: bool) -> None:
        """Whether processes must search for parameters without gradients in each step."""
        self.accelerator.ddp_handler.find_unused_parameters = unused

    def total(self, numbers: Iterable[float]) -> list[float]:
        """Sums over all processes, in float64."""
        values = list(numbers)
        if self.shard.world == 1:
            return values
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=kind, device=self.device)
        torch.distributed.all_reduce(tensor)
        return [float(x) for x in tensor]

    def all_have(self, mine: bool) -> bool:
        """Whether every process says yes."""
        return self.total([float(not mine)])[0] == 0 if self.shard.world > 1 else mine

    def least(self, number: int) -> int:
        """The smallest of all processes' numbers."""
        if self.shard.world == 1:
            return number
        tensor = torch.tensor([number], device=self.device)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MIN)
        return int(tensor)

    def average(self, buffers: Iterable[Tensor]) -> None:
        """Replace floating buffers by their mean over the processes, in place."""
        if self.shard.world == 1:
            return
        shared = [b for b in buffers if b.is_floating_point()]
        if not shared:
            return
        flat = torch.cat([b.detach().reshape(-1).float() for b in shared])
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat / self.shard.world, [b.numel() for b in shared])
        for buffer, part in zip(shared, parts, strict=True):
            buffer.detach().copy_(part.view_as(buffer))

    def close(self) -> None:
        """Wait until all processes are here: the first may still be writing."""
        if self.shard.world > 1:
            torch.distributed.barrier()


def _leave() -> None:
    if torch.distributed.is_initialized():  # the user may have left it already
        torch.distributed.destroy_process_group()


def uses_cpu(device: str) -> bool:
    """Whether the CPU is meant. Raises UsageError where there is no GPU to use."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here")
    return device == "cpu" or not torch.cuda.is_available()


def is_first() -> bool:
    """Whether this process writes and prints, as `torchrun` says; before any process joined."""
    return os.environ.get("RANK", "0") == "0"


def _accelerator(cpu: bool, precision: str) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState, GradientState
    except ImportError as error:
        raise MissingDependencyError(
            "training needs torch and accelerate: pip install 'prunec[train]'"
        ) from error
    # They are shared by all Accelerators of a process: a second run may want another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    # Running statistics are averaged by us: each process sees other samples.
    distributed = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[distributed])
