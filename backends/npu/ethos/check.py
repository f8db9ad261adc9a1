"""Whether a network computes its workload: it is run in NumPy and compared with the workload's own reference.

That covers everything decided here (the form of a product, its parts, layouts, padding), nothing that Vela does to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.backends.npu.ethos import networks
from fettle.graph.data import keyed_rng, reference
from fettle.graph.workload import Workload

Array = NDArray[Any]


def what_is_wrong(workload: Workload, network: bytes) -> str:
    """Why a network's result is not the workload's; empty if every element is within half a step of it."""
    from fettle.backends.npu.ethos import interpret

    rng = keyed_rng("fettle.ethos", workload.key)
    drawn = [rng.integers(-127, 128, shape).astype(np.int8) for shape in interpret.input_shapes(network)]
    result = interpret.run(network, drawn)
    expected = _expected(workload, drawn)
    if result.values.size != expected.size:
        return f"the network gives {result.values.shape} for {expected.shape}"
    steps = np.clip(expected.reshape(result.values.shape) / result.scale, -128.0, 127.0)
    off = float(np.abs(result.values - steps).max())
    return "" if off <= 0.5 + 1e-6 else f"the network is off by {off:.3g} steps of its result"


def _expected(workload: Workload, drawn: list[Array]) -> Array:
    """The reference's result for the inputs drawn and the network's weights as real numbers, as the network lays it
    out: rows first, channels last."""
    inputs = [x * np.float32(networks.SCALE) for x in drawn]
    v = workload.values
    if workload.operator == "elementwise":
        plain = Workload.of("elementwise", shape="x".join(map(str, v["shape"])), act="f32", expr=v["expr"])
        return reference(plain, [x.reshape(v["shape"]) for x in inputs]).expected
    weight = networks.weight(workload) * np.float32(networks.SCALE)
    if workload.operator == "matmul":
        plain = Workload.of("matmul", m=v["m"], n=v["n"], k=v["k"], act="f32", weight="f32")
        return reference(plain, [inputs[0].reshape(v["m"], v["k"]), np.ascontiguousarray(weight.T)]).expected
    shape = {name: v[name] for name in ("n", "c", "h", "w", "oc", "kh", "kw", "stride", "pad")}
    plain = Workload.of("conv2d", **shape, act="f32", weight="f32")
    image, filters = inputs[0].transpose(0, 3, 1, 2), weight.transpose(0, 3, 1, 2)
    return np.asarray(reference(plain, [image, filters]).expected.transpose(0, 2, 3, 1))
