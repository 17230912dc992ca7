"""Resources that can be budgeted: one file and one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.flops import flops
from prunec.compiler.costs.ledger import Ledger
from prunec.compiler.costs.params import params
from prunec.compiler.costs.weight_bytes import weight_bytes

COSTS: Mapping[str, Callable[[Ledger], Polynomial]] = {
    "flops": flops,
    "params": params,
    "bytes": weight_bytes,
}
