"""What ``fettle.tune`` refuses before it does anything."""

from __future__ import annotations

from typing import Any

import pytest

from fettle.graph.errors import InvalidArgument
from fettle.tuning import plan

SOFTMAX = "softmax rows=8 cols=96 act=f32"


@pytest.mark.parametrize(
    ("target", "options", "reason"),
    [
        ([], {}, "nothing to tune"),
        ([SOFTMAX], {}, "holds Workloads"),
        (None, {}, "not NoneType"),
        (__file__, {}, "is a file, and no ONNX model"),
        (SOFTMAX, {"objectives": "latency"}, r"write \['latency'\]"),
        (SOFTMAX, {"objectives": ["energy"]}, "latency is not among"),
        (SOFTMAX, {"objectives": 3}, "several names, not 3"),
        (SOFTMAX, {"trials": "8"}, "numbers"),
        (SOFTMAX, {"seed": "a"}, "not 'a'"),
    ],
)
def test_malformed_requests_are_refused_with_the_reason(target: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        plan(target, "npu:systolic", **options)
    refused.match(reason)
