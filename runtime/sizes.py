"""Other numbers for the symbolic sizes of a model than those that it is analysed at."""

from __future__ import annotations

from prunec.runtime.inputs import model_inputs
from prunec.runtime.subject import Subject

SMALLEST_HALVED = 4


def other_sizes(subject: Subject) -> list[dict[str, tuple[int, ...]]]:
    """Input shapes to try, most telling first: every symbol changed, then those of the batch alone.

    A batch (a symbol on some first axis) is two larger, any other size half: what runs at a size
    mostly runs at half of it, in less time. Empty without symbols.
    """
    specs, shapes = model_inputs(subject.model), subject.facts.shapes
    dims = {s.name: s.shape or shapes[s.name] for s in specs if s.name in shapes}
    numbers = {
        dim: number
        for name, symbols in dims.items()
        for dim, number in zip(symbols, shapes[name], strict=True)
        if isinstance(dim, str)
    }
    batch = {d[0]: numbers[d[0]] + 2 for d in dims.values() if d and isinstance(d[0], str)}
    halved = {d: n // 2 if n >= SMALLEST_HALVED else n + 2 for d, n in numbers.items()}
    changes = [halved | batch, batch] if batch else [halved]
    tried: list[dict[str, tuple[int, ...]]] = []
    for change in changes:
        bound = {
            name: tuple(
                change.get(dim, number) if isinstance(dim, str) else number
                for dim, number in zip(symbols, shapes[name], strict=True)
            )
            for name, symbols in dims.items()
        }
        if change and bound not in tried:
            tried.append(bound)
    return tried
