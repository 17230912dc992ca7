"""What a training step costs in the torch view, beside the plain torch module.

    python tools/bench/training.py [--net resnet20] [--steps 20] [--rounds 5] [--batch 128]

The network of cifar_nets.py is exported; module and view take the same steps on the same random
images, in turns, on one core. Printed is the CPU time of a step of each, the median over rounds,
and how far their losses are apart after one step from the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from cifar_nets import NETS
from torch import Tensor, nn
from torch.nn import functional
from verdict import Figure, report

SIDE, CLASSES = 32, 10
LEARNING_RATE = 1e-3
LARGEST_RATIO = 1.15
NEAR = 1e-4


def main() -> int:
    """Time both in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=sorted(NETS), default="resnet20")
    parser.add_argument("--steps", type=int, default=20, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(a.batch, 3, SIDE, SIDE)
    labels = torch.randint(0, CLASSES, (a.batch,))
    module = NETS[a.net]()
    view = viewed(module)
    steps = {
        "module": stepper(module, lambda: module(images), labels),
        "view": stepper(view[0], lambda: view[1](images), labels),
    }
    first = {name: step() for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(a.rounds):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(a.steps):
                step()
            seconds[name].append((time.process_time() - start) / a.steps)
    plain, own = (statistics.median(seconds[name]) for name in ("module", "view"))
    return report(
        [
            Figure("step of the module", 1000 * plain, "ms CPU", form=".1f"),
            Figure("step of the view", 1000 * own, "ms CPU", form=".1f"),
            Figure("view / module", own / plain, "x", most=LARGEST_RATIO),
            Figure(
                "first losses apart",
                abs(first["view"] - first["module"]),
                most=NEAR,
                form=".1e",
            ),
        ]
    )


def viewed(module: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The module's export as a view that trains, and how it is called."""
    import prunec
    from prunec.frontends.torch import from_torch

    model = from_torch(module.eval(), (torch.zeros(1, 3, SIDE, SIDE),))
    module.train()
    view = prunec.torch_view(model)
    view.train()
    (source,), (target,) = view.inputs, view.outputs
    return view, lambda images: view({source: images})[target]


def stepper(
    module: nn.Module, forward: Callable[[], Tensor], labels: Tensor
) -> Callable[[], float]:
    """One optimizer step, which returns its loss."""
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE, momentum=0.9)

    def step() -> float:
        loss = functional.cross_entropy(forward(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    sys.exit(main())
