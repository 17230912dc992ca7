"""What a killed run goes on from: one file, whole or not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunec.compiler.errors import OutputError, UsageError, first_line
from prunec.runtime.training.settings import TrainSettings

FORMAT = 1
FILE = "training.pt"
# What may differ between the command that was killed and the one that goes on.
FREE = frozenset({"checkpoint", "checkpoint_steps", "threads"})


def fingerprint(
    settings: TrainSettings, state: Mapping[str, Tensor], facts: Iterable[object]
) -> str:
    """A digest of all that decides the result: settings, the weights at the start, more facts."""
    digest = hashlib.sha256()
    shown = [(f.name, getattr(settings, f.name)) for f in fields(settings) if f.name not in FREE]
    digest.update(repr((shown, list(facts))).encode())
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint. Raises OutputError, with the old one untouched."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(".prunec-*"):  # of a run that was killed while it wrote
            half.unlink()
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".prunec-", delete=False) as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, folder / FILE)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error


def read(folder: Path, run: str) -> dict[str, Any] | None:
    """The checkpoint of this run, or None where the folder has none yet.

    No pickled objects are read. Raises UsageError where it is another run's or damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise UsageError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UsageError(f"{path}: not a checkpoint of this version of prunec")
    if state.get("run") != run:
        raise UsageError(
            f"{path}: belongs to a run with other options, weights, data or processes; "
            "name another folder with --checkpoint, or delete it"
        )
    return state
