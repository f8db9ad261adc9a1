"""Makes ONNX models of Llama-shaped decoder layers with 4-bit weights, by default one decode step of TinyLlama.

    python examples/decoder_layer.py -o examples/decoder_layer.onnx
    fettle tune examples/decoder_layer.onnx --device cpu --trials 64

Without ``--weights`` the weights stay graph inputs, named in the model's metadata under ``fettle.weights``:
tuning needs only their shapes, and the file is a few kilobytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64
OPSET = 24
EPSILON = 1e-5


class Layers:
    """Collects nodes, inputs and weights while the layers are written down."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.nodes: list[NodeProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.weights: list[ValueInfoProto] = []
        self.constants: list[TensorProto] = []

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Append a node named after its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """A small constant: a shape, a factor. One tensor for all layers."""
        if name not in {tensor.name for tensor in self.constants}:
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def input(self, name: str, element: int, shape: Sequence[int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def weight(self, name: str, element: int, shape: Sequence[int]) -> str:
        self.weights.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def linear(self, x: str, name: str, k: int, n: int) -> str:
        """x[…, k] times a quantised weight [n, k]."""
        bits, block = self.options.bits, self.options.block
        blocks = -(-k // block)
        codes = self.weight(f"{name}.weight", UINT8, [n, blocks, block * bits // 8])
        scales = self.weight(f"{name}.scales", FLOAT, [n, blocks])
        return self.node(
            "MatMulNBits", [x, codes, scales], name,
            domain="com.microsoft", K=k, N=n, bits=bits, block_size=block, accuracy_level=4,
        )  # fmt: skip

    def norm(self, x: str, name: str) -> str:
        scale = self.weight(f"{name}.weight", FLOAT, [self.options.hidden])
        return self.node("RMSNormalization", [x, scale], name, axis=-1, epsilon=EPSILON)

    def reshape(self, x: str, name: str, shape: Sequence[int]) -> str:
        wanted = self.constant("shape_" + "x".join(map(str, shape)), np.array(shape, np.int64))
        return self.node("Reshape", [x, wanted], name)

    def heads(self, x: str, name: str, count: int) -> str:
        """[batch, sequence, count·dim] -> [batch, count, sequence, dim]."""
        o = self.options
        split = self.reshape(x, f"{name}_split", [o.batch, o.sequence, count, o.head_dim])
        return self.node("Transpose", [split], name, perm=[0, 2, 1, 3])

    def rotate(self, x: str, name: str) -> str:
        return self.node("RotaryEmbedding", [x, "cos", "sin", "positions"], name)

    def attention(self, x: str, layer: str) -> str:
        """Grouped-query attention over a key and value cache, written out so that its parts can be tuned."""
        o = self.options
        total, group = o.past + o.sequence, o.heads // o.kv_heads
        q = self.heads(self.linear(x, f"{layer}.q", o.hidden, o.heads * o.head_dim), f"{layer}.q_heads", o.heads)
        k = self.heads(self.linear(x, f"{layer}.k", o.hidden, o.kv_heads * o.head_dim), f"{layer}.k_heads", o.kv_heads)
        v = self.heads(self.linear(x, f"{layer}.v", o.hidden, o.kv_heads * o.head_dim), f"{layer}.v_heads", o.kv_heads)
        q, k = self.rotate(q, f"{layer}.q_rotated"), self.rotate(k, f"{layer}.k_rotated")
        cache = [o.batch, o.kv_heads, o.past, o.head_dim]
        keys = self.input(f"{layer}.past_key", FLOAT, cache)
        values = self.input(f"{layer}.past_value", FLOAT, cache)
        keys = self.node("Concat", [keys, k], f"{layer}.present_key", axis=2)
        values = self.node("Concat", [values, v], f"{layer}.present_value", axis=2)
        for name in (keys, values):
            self.outputs.append(helper.make_tensor_value_info(name, FLOAT, [o.batch, o.kv_heads, total, o.head_dim]))
        factor = self.constant("attention_scale", np.array(o.head_dim**-0.5, np.float32))
        q = self.node("Mul", [q, factor], f"{layer}.q_scaled")
        # The query heads of one group share a key head: they become rows of one matrix product.
        q = self.reshape(q, f"{layer}.q_groups", [o.batch, o.kv_heads, group * o.sequence, o.head_dim])
        turned = self.node("Transpose", [keys], f"{layer}.keys_transposed", perm=[0, 1, 3, 2])
        scores = self.node("MatMul", [q, turned], f"{layer}.scores")
        if o.sequence > 1:
            split = [o.batch, o.kv_heads, group, o.sequence, total]
            scores = self.reshape(scores, f"{layer}.scores_split", split)
            future = np.triu(np.full((o.sequence, total), -np.inf, np.float32), k=o.past + 1)
            scores = self.node("Add", [scores, self.constant("causal_mask", future)], f"{layer}.scores_masked")
        weights = self.node("Softmax", [scores], f"{layer}.softmax", axis=-1)
        if o.sequence > 1:
            joined = [o.batch, o.kv_heads, group * o.sequence, total]
            weights = self.reshape(weights, f"{layer}.softmax_groups", joined)
        context = self.node("MatMul", [weights, values], f"{layer}.context")
        context = self.reshape(context, f"{layer}.context_heads", [o.batch, o.heads, o.sequence, o.head_dim])
        context = self.node("Transpose", [context], f"{layer}.context_turned", perm=[0, 2, 1, 3])
        context = self.reshape(context, f"{layer}.context_joined", [o.batch, o.sequence, o.heads * o.head_dim])
        return self.linear(context, f"{layer}.o", o.heads * o.head_dim, o.hidden)

    def mlp(self, x: str, layer: str) -> str:
        """down(silu(gate(x)) · up(x))."""
        o = self.options
        gate = self.linear(x, f"{layer}.gate", o.hidden, o.mlp)
        up = self.linear(x, f"{layer}.up", o.hidden, o.mlp)
        gate = self.node("Swish", [gate], f"{layer}.silu")
        product = self.node("Mul", [gate, up], f"{layer}.gated")
        return self.linear(product, f"{layer}.down", o.mlp, o.hidden)

    def layer(self, x: str, layer: str, output: str) -> str:
        x = self.node("Add", [x, self.attention(self.norm(x, f"{layer}.norm1"), layer)], f"{layer}.residual1")
        return self.node("Add", [x, self.mlp(self.norm(x, f"{layer}.norm2"), layer)], output)

    def model(self) -> ModelProto:
        """The finished model; its weights are graph inputs."""
        o = self.options
        shape = [o.batch, o.sequence, o.hidden]
        x = self.input("x", FLOAT, shape)
        self.input("cos", FLOAT, [o.past + o.sequence, o.head_dim // 2])
        self.input("sin", FLOAT, [o.past + o.sequence, o.head_dim // 2])
        self.input("positions", INT64, [o.batch, o.sequence])
        for index in range(o.layers):
            x = self.layer(x, f"layer{index}", "y" if index == o.layers - 1 else f"layer{index}.y")
        self.outputs.insert(0, helper.make_tensor_value_info("y", FLOAT, shape))
        graph = helper.make_graph(
            self.nodes, "decoder", [*self.inputs, *self.weights], self.outputs, initializer=self.constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=11, producer_name="fettle")
        helper.set_model_props(model, {"fettle.weights": json.dumps([value.name for value in self.weights])})
        return model


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--layers", type=int, default=1)
    result.add_argument("--batch", type=int, default=1)
    result.add_argument("--sequence", type=int, default=1, help="new tokens; 1 is a decode step")
    result.add_argument("--past", type=int, default=127, help="tokens in the key and value cache")
    result.add_argument("--hidden", type=int, default=2048)
    result.add_argument("--mlp", type=int, default=5632)
    result.add_argument("--heads", type=int, default=32)
    result.add_argument("--kv-heads", type=int, default=4)
    result.add_argument("--head-dim", type=int, default=64)
    result.add_argument("--bits", type=int, default=4)
    result.add_argument("--block", type=int, default=128, help="weights that share a scale")
    result.add_argument("--weights", action="store_true", help="store random weights in the model")
    result.add_argument("--seed", type=int, default=0, help="of the random weights")
    result.add_argument("-o", "--output", default="decoder_layer.onnx")
    return result


def build(arguments: Sequence[str] = ()) -> ModelProto:
    """The model that the command line ``arguments`` describe."""
    options = parser().parse_args(list(arguments))
    model = Layers(options).model()
    if options.weights:
        from fettle.graph.onnx.weights import fill_weights

        model = fill_weights(model, options.seed)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(build(sys.argv[1:]), parser().parse_args().output)
