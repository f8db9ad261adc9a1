"""Keys and values of the past, before those of new tokens."""

from __future__ import annotations

from fettle.graph.onnx.expansion.site import Site


def past_length(site: Site, key: tuple[int, int, int], value: tuple[int, int, int]) -> int:
    """Positions of the past; 0 for none.

    Args:
        key: batch, heads and size of ``past_key`` ``[batch, heads, positions, size]``.
        value: the same of ``past_value``.

    Raises:
        NotUnderstood: one is missing, or has another shape.
    """
    if not site["past_key"] and not site["past_value"]:
        return 0
    past = site.shape("past_key", 4)[2]
    for label, (batch, heads, size) in (("past_key", key), ("past_value", value)):
        if site.shape(label) != (batch, heads, past, size):
            raise site.refusal(f"{label} of shape {list(site.shape(label))}")
    return past


def presents(site: Site, key: str, value: str, past: int) -> tuple[str, str]:
    """Past and new keys, past and new values: the node's second and third result, where somebody asks for these."""
    return _present(site, 1, "past_key", key, past), _present(site, 2, "past_value", value, past)


def _present(site: Site, index: int, label: str, new: str, past: int) -> str:
    if past:
        return site.add("Concat", site[label], new, result=site.output(index), axis=2)
    if site.output(index):
        site.add("Identity", new, result=site.output(index))
    return new
