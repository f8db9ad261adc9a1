"""The operators: fields, operands, reference semantics and error bounds of each.

One file per operator; ``base.py`` declares what an operator is, ``products.py`` and ``weights.py`` serve matmul.
"""

from fettle.graph.operators.attention import Attention
from fettle.graph.operators.base import Operator, Reference
from fettle.graph.operators.conv2d import Conv2d
from fettle.graph.operators.elementwise import Elementwise
from fettle.graph.operators.layernorm import LayerNorm
from fettle.graph.operators.lossless import Lossless
from fettle.graph.operators.matmul import Matmul
from fettle.graph.operators.quantize import Quantize
from fettle.graph.operators.recorded import Recorded
from fettle.graph.operators.rmsnorm import RmsNorm
from fettle.graph.operators.softmax import Softmax

OPERATORS: dict[str, Operator] = {
    op.name: op
    for op in (
        Matmul(),
        Conv2d(),
        Softmax(),
        RmsNorm(),
        LayerNorm(),
        Elementwise(),
        Attention(),
        Lossless(),
        Quantize(),
        Recorded(),
    )
}

__all__ = ["OPERATORS", "Operator", "Reference"]
