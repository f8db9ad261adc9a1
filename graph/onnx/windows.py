"""How Conv, ConvTranspose and pooling nodes slide their window: attributes with ONNX's defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from onnx import NodeProto, helper

from fettle.graph.errors import InvalidGraph

CONVOLUTION = ("kernel_shape", "strides", "pads", "dilations", "group", "auto_pad")
"""Attributes of Conv, and of its like for codes."""


@attrs.frozen
class Window:
    """Of each spatial axis.

    Attributes:
        size: elements of the window that are read, ``dilations`` apart.
        begins, ends: padding before and after the image.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, node: NodeProto, image: Sequence[int], size: Sequence[int]) -> Window:
        """A node's window of this size over an image.

        ``auto_pad`` SAME_UPPER and SAME_LOWER pad so that an axis gives ⌈size of the image / stride⌉ results, and put
        an odd element of padding at the end or the beginning.

        Raises:
            InvalidGraph: a list of another length, or a stride or dilation below one.
        """
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        ones = [1] * len(size)
        strides = attributes.get("strides") or ones
        dilations = attributes.get("dilations") or ones
        pads = attributes.get("pads") or [0] * 2 * len(size)
        if not len(strides) == len(dilations) == len(pads) / 2 == len(size) or min(*strides, *dilations, 1) < 1:
            raise InvalidGraph(
                f"node {node.name!r}: strides {strides}, dilations {dilations} and pads {pads} are not those of a "
                f"window of {list(size)}",
                details={"node": node.name},
            )
        begins, ends = list(pads[: len(size)]), list(pads[len(size) :])
        automatic = attributes.get("auto_pad", b"NOTSET")
        if automatic == b"VALID":
            begins = ends = [0] * len(size)
        elif automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            axes = zip(image, size, strides, dilations, strict=True)
            totals = [max((-(-i // s) - 1) * s + (k - 1) * d + 1 - i, 0) for i, k, s, d in axes]
            less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
            begins, ends = (less, more) if automatic == b"SAME_UPPER" else (more, less)
        return cls(tuple(size), tuple(strides), tuple(dilations), tuple(begins), tuple(ends))
