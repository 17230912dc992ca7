from __future__ import annotations

import onnx
from nets import conv
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.diagnostics import Diagnostic, Severity, inexact_nodes
from prunec.compiler.freedom import Freedom
from prunec.compiler.interpret import interpret
from prunec.compiler.reasons import Reason


def softmax_over_channels() -> onnx.ModelProto:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 4)
    b.output(conv(b, b.add("Softmax", [x], axis=1), "head.weight", 3))
    return b.model()


def test_what_is_exact_needs_no_word() -> None:
    assert not list(inexact_nodes({}))
    assert not analyse(softmax_over_channels()).graph.diagnostics


def test_inexact_nodes_are_counted_by_reason() -> None:
    (found,) = inexact_nodes(
        {
            "a": (Reason.SOFTMAX_AXIS, "Softmax runs over it"),
            "b": (Reason.NORM_STATISTICS, "statistics"),
            "c": (Reason.NORM_STATISTICS, "statistics"),
        }
    )
    assert (found.code, found.node, found.severity) == ("inexact", "", Severity.INFO)
    assert found.message.startswith(
        "3 nodes work on the channels that stay (norm-statistics 2, softmax-axis 1): "
    )


def test_residual_tells_which_node_is_inexact() -> None:
    case = analyse(softmax_over_channels())
    (found,) = interpret(case.model, case.facts, freedom=Freedom(residual=True)).diagnostics
    assert (found.code, found.node) == ("inexact", "Softmax_1")
    assert found.message.startswith("1 node works on the channels that stay (softmax-axis 1)")


def test_a_diagnostic_reads_as_one_line() -> None:
    shown = str(Diagnostic("opaque-op", "node", "no coupling rule"))
    assert shown == "warning[opaque-op] node: no coupling rule"
