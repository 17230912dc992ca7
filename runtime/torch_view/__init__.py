"""An ONNX model as a trainable torch.nn.Module."""

from __future__ import annotations

from prunec.runtime.torch_view.view import TorchView, torch_view

__all__ = ["TorchView", "torch_view"]
