"""Resources that can be budgeted: one file and one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prunec.compiler.cost import Cost
from prunec.compiler.costs.activations import activations
from prunec.compiler.costs.flops import flops
from prunec.compiler.costs.ledger import Ledger
from prunec.compiler.costs.memory import memory
from prunec.compiler.costs.params import params
from prunec.compiler.costs.weight_bytes import weight_bytes

COSTS: Mapping[str, Callable[[Ledger], Cost]] = {
    "flops": flops,
    "params": params,
    "bytes": weight_bytes,
    "activations": activations,
    "memory": memory,
}
# Measured, not counted: the graph alone doesn't tell them.
MEASURED = frozenset({"latency"})
