"""RNN, GRU and LSTM: torch's own where they are plain, step by step otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Call, Row

Activation = Callable[[Tensor], Tensor]
# name -> activation of alpha and beta. Source: ONNX LSTM, "equations".
ACTIVATIONS: Mapping[str, Callable[[float | None, float | None], Activation]] = {
    "affine": lambda a, b: lambda x: (1.0 if a is None else a) * x + (b or 0.0),
    "elu": lambda a, _: lambda x: F.elu(x, 1.0 if a is None else a),
    "hardsigmoid": lambda a, b: (
        lambda x: ((0.2 if a is None else a) * x + (0.5 if b is None else b)).clamp(0, 1)
    ),
    "leakyrelu": lambda a, _: lambda x: F.leaky_relu(x, 0.01 if a is None else a),
    "relu": lambda _, __: torch.relu,
    "scaledtanh": lambda a, b: (
        lambda x: (1.0 if a is None else a) * torch.tanh((1.0 if b is None else b) * x)
    ),
    "sigmoid": lambda _, __: torch.sigmoid,
    "softplus": lambda _, __: F.softplus,
    "softsign": lambda _, __: F.softsign,
    "tanh": lambda _, __: torch.tanh,
    "thresholdedrelu": lambda a, _: (
        lambda x: torch.where(x > (1.0 if a is None else a), x, torch.zeros_like(x))
    ),
}
TAKES_ALPHA = frozenset(
    ["affine", "elu", "hardsigmoid", "leakyrelu", "scaledtanh", "thresholdedrelu"]
)
TAKES_BETA = frozenset(["affine", "hardsigmoid", "scaledtanh"])
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}
# Which block of ONNX's weights each block of torch's is: LSTM iofc -> ifgo, GRU zrh -> rzn.
BLOCKS: Mapping[str, tuple[int, ...]] = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction. w (G H, I), r (G H, H), wb, rb (G H,) biases, p (3 H,) peepholes of LSTM."""

    call: Call
    w: Tensor
    r: Tensor
    wb: Tensor
    rb: Tensor
    p: Tensor | None
    functions: Sequence[Activation]

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after a step; x: (N, I)."""
        return {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.call.op](x, state)

    def _clip(self, x: Tensor) -> Tensor:
        bound = self.call.get("clip")
        return x if bound is None else x.clamp(-bound, bound)

    def _rnn(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        gates = F.linear(x, self.w, self.wb) + F.linear(state[0], self.r, self.rb)
        return (self.functions[0](self._clip(gates)),)

    def _gru(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = state
        z, r, n = F.linear(x, self.w, self.wb).chunk(3, -1)
        rz, rr, rn = self.r.chunk(3)
        bz, br, bn = self.rb.chunk(3)
        z = self.functions[0](self._clip(z + F.linear(h, rz, bz)))
        r = self.functions[0](self._clip(r + F.linear(h, rr, br)))
        if self.call.get("linear_before_reset", 0):
            n = n + r * F.linear(h, rn, bn)
        else:
            n = n + F.linear(r * h, rn, bn)
        return ((1 - z) * self.functions[1](self._clip(n)) + z * h,)

    def _lstm(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = state
        gates = F.linear(x, self.w, self.wb) + F.linear(h, self.r, self.rb)
        i, o, f, g = gates.chunk(4, -1)
        pi, po, pf = (0.0, 0.0, 0.0) if self.p is None else self.p.chunk(3)
        sigma, tanh, out = self.functions
        i = sigma(self._clip(i + pi * c))
        f = 1 - i if self.call.get("input_forget", 0) else sigma(self._clip(f + pf * c))
        c = f * c + i * tanh(self._clip(g))
        return sigma(self._clip(o + po * c)) * out(c), c


def _functions(call: Call, directions: int) -> list[list[Activation]]:
    names = [str(n).lower() for n in call.get("activations") or DEFAULTS[call.op] * directions]
    alphas, betas = iter(call.get("activation_alpha", ())), iter(call.get("activation_beta", ()))
    made = [
        ACTIVATIONS[name](
            next(alphas, None) if name in TAKES_ALPHA else None,
            next(betas, None) if name in TAKES_BETA else None,
        )
        for name in names
    ]
    each = len(DEFAULTS[call.op])
    return [made[k * each : (k + 1) * each] for k in range(directions)]


def recurrent(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """ONNX RNN, GRU and LSTM: ``x (T, N, I) -> y (T, D, N, H), h (D, N, H)[, c (D, N, H)]``.

    layout=1 has N before T and D.
    """
    batched = bool(call.get("layout", 0))
    directions, hidden = w.shape[0], r.shape[-1]
    xs = x.transpose(0, 1) if batched else x
    zeros = xs.new_zeros(directions, xs.shape[1], hidden)
    count = 2 if call.op == "LSTM" else 1
    given = [s if s is None or not batched else s.transpose(0, 1) for s in (h, c)][:count]
    states = tuple(zeros if s is None else s for s in given)
    biases = w.new_zeros(directions, 2 * w.shape[1]) if b is None else b
    if _is_torchs(call, lengths, p):
        ys, finals = _as_torch(call, xs, w, r, biases, states)
    else:
        ys, finals = _stepwise(call, xs, w, r, biases, lengths, states, p)
    if batched:
        return ys.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in finals)
    return ys, *finals


def _is_torchs(call: Call, lengths: Tensor | None, p: Tensor | None) -> bool:
    default = tuple(name.lower() for name in DEFAULTS[call.op])
    names = tuple(str(name).lower() for name in call.get("activations") or default)
    plain = all(names[k : k + len(default)] == default for k in range(0, len(names), len(default)))
    special = call.get("clip") is not None or call.get("input_forget", 0)
    reset = call.op != "GRU" or call.get("linear_before_reset", 0)
    return plain and not special and bool(reset) and lengths is None and p is None


def _as_torch(
    call: Call, x: Tensor, w: Tensor, r: Tensor, b: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    directions, backwards = w.shape[0], call.get("direction", "forward") == "reverse"
    weights: list[Tensor] = []
    for k in range(directions):
        wb, rb = b[k].chunk(2)
        weights += [_reordered(call, m) for m in (w[k], r[k], wb, rb)]
    xs = x.flip(0) if backwards else x
    flags = (True, 1, 0.0, False, directions == 2, False)
    if call.op == "LSTM":
        y, *finals = torch.lstm(xs, states, weights, *flags)
    elif call.op == "GRU":
        y, *finals = torch.gru(xs, states[0], weights, *flags)
    else:
        y, *finals = torch.rnn_tanh(xs, states[0], weights, *flags)
    y = y.reshape(*y.shape[:2], directions, -1).transpose(1, 2)
    return y.flip(0) if backwards else y, tuple(finals)


def _reordered(call: Call, weight: Tensor) -> Tensor:
    blocks = weight.chunk(len(BLOCKS[call.op]))
    return torch.cat([blocks[k] for k in BLOCKS[call.op]])


def _stepwise(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    lengths: Tensor | None,
    states: tuple[Tensor, ...],
    p: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    directions = w.shape[0]
    outs, finals = [], []
    for k, functions in enumerate(_functions(call, directions)):
        wb, rb = b[k].chunk(2)
        cell = _Cell(call, w[k], r[k], wb, rb, None if p is None else p[k], functions)
        backwards = call.get("direction", "forward") == "reverse" or k == 1
        y, last = _unrolled(cell, x, lengths, tuple(s[k] for s in states), backwards)
        outs.append(y)
        finals.append(last)
    return torch.stack(outs, 1), tuple(torch.stack(s) for s in zip(*finals, strict=True))


def _unrolled(
    cell: _Cell, x: Tensor, lengths: Tensor | None, state: tuple[Tensor, ...], backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (T, N, H) and the last state; past its length a sample's state stands still."""
    outs: list[Tensor] = []
    order = range(x.shape[0] - 1, -1, -1) if backwards else range(x.shape[0])
    for t in order:
        new = cell.step(x[t], state)
        if lengths is None:
            state = new
            outs.append(new[0])
            continue
        runs = (t < lengths)[:, None]
        state = tuple(torch.where(runs, n, s) for n, s in zip(new, state, strict=True))
        outs.append(torch.where(runs, new[0], torch.zeros_like(new[0])))
    return torch.stack(outs[::-1] if backwards else outs), state


ROWS: Mapping[str, Row] = {
    op: Row(recurrent, weights=frozenset([1, 2, 3, 7])) for op in ("GRU", "LSTM", "RNN")
}
