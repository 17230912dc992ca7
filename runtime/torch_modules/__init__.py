"""Slice the user's own torch modules by a plan."""

from __future__ import annotations

from prunec.runtime.torch_modules.apply_to import apply_to

__all__ = ["apply_to"]
