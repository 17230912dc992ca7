"""prunec: make trained ONNX networks smaller and faster, and prove it."""

from prunec._version import __version__ as __version__
