"""A processor and a memory that computes, side by side: batched decoding with sub-batches (NeuPIMs, 2403.00579).

Attention of every sequence reads its own keys, so it goes to the memory; products with weights go to the processor.
With one batch the two take turns. Split into sub-batches, one is in attention while the other is in its products;
the price is that each sub-batch reads the weights for itself. The memory must serve both at once: two row buffers.
Commands of the one are assumed not to slow the other.
"""

from __future__ import annotations

import attrs

from fettle.graph.errors import Unsupported
from fettle.search.placement.costs import Place
from fettle.search.placement.work import Decoder, decode


@attrs.frozen
class Stage:
    """Seconds of one sub-batch in one layer: products before attention, attention, products after it; and the head."""

    before: float
    attention: float
    after: float
    head: float


@attrs.frozen
class Interleaving:
    """One token for each sequence of a batch; seconds.

    Attributes:
        processor_only: attention on the processor, too.
        naive: products on the processor, attention in memory, in turns.
        two_halves: two sub-batches at a time.
    """

    batch: int
    processor_only: float
    naive: float
    two_halves: float

    @property
    def interleaved(self) -> float:
        """What a scheduler does that knows both: a batch is only split where that saves time."""
        return min(self.naive, self.two_halves)

    @property
    def gain(self) -> float:
        """Over the naive use of both."""
        return self.naive / self.interleaved


def stage(decoder: Decoder, batch: int, context: int, products: Place, attention: Place) -> Stage:
    """Ask two places about one layer.

    Raises:
        Unsupported: one of them cannot run its part.
    """
    seconds = {}
    for operator in decode("", decoder, batch, context).operators:
        place = attention if operator.name == "attention" else products
        cost = place.cost(operator.workload)
        if cost is None:
            raise Unsupported(
                f"{place.name} does not run {operator.workload}", hint="a smaller batch or a shorter context may fit"
            )
        seconds[operator.name] = cost.seconds
    after = seconds["projection"] + seconds["up"] + seconds["down"]
    return Stage(seconds["qkv"], seconds["attention"], after, seconds["head"])


def timeline(stages: list[Stage], layers: int) -> float:
    """Seconds until all sub-batches have gone through all layers; each resource serves whoever is ready first.

    A sub-batch's products after attention and those before the next one are one piece of work.
    """
    processor = memory = 0.0
    ready = [0.0] * len(stages)
    for layer in range(layers + 1):
        for number, one in sorted(enumerate(stages), key=lambda pair: ready[pair[0]]):
            work = (one.after if layer else 0.0) + (one.before if layer < layers else one.head)
            processor = max(processor, ready[number]) + work
            ready[number] = processor
            if layer < layers:
                memory = max(memory, ready[number]) + one.attention
                ready[number] = memory
    return max(ready)


def interleaving(decoder: Decoder, batch: int, context: int, processor: Place, memory: Place) -> Interleaving:
    """The three ways for one batch.

    Raises:
        Unsupported: a place cannot run its part, or the batch has one sequence.
    """
    if batch < 2:
        raise Unsupported("a batch of one sequence has no two sub-batches")
    alone = timeline([stage(decoder, batch, context, processor, processor)], decoder.layers)
    naive = timeline([stage(decoder, batch, context, processor, memory)], decoder.layers)
    halves = [stage(decoder, size, context, processor, memory) for size in (batch - batch // 2, batch // 2)]
    return Interleaving(batch, alone, naive, timeline(halves, decoder.layers))
