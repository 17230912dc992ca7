"""A small network and real images, both part of the package, to try everything on."""

from __future__ import annotations

from pathlib import Path

DIGITS = Path(__file__).with_name("digits.onnx")
IMAGES = Path(__file__).with_name("digits.npz")
