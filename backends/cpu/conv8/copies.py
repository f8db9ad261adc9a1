"""Rows of x as words of four codes, padding included.

Words of channels take the codes of four channels at one place, and lie in planes as :class:`Geometry` has them. Words
of rows are made of a copy of the band's rows with its padding, whose columns may be read beyond their end.
"""

from __future__ import annotations

from collections.abc import Callable

from fettle.backends.cpu.conv8.plan import Plan
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, constant, load, pieces, splat, store
from fettle.backends.cpu.integers.words import WORD

_LONGEST = 64
"""Bytes of the longest vector."""


def copy(target: Buffer, start: Expr, read: Callable[[Expr, int], Expr], count: int, bytes_each: int = 1) -> None:
    """``count`` elements that ``read(offset, lanes)`` gives, to ``start`` of a flat buffer."""
    for first, lanes, times in pieces(count, _LONGEST // bytes_each):
        with T.serial(0, times) as i:
            offset = first + i * lanes
            store(target, start + offset, read(offset, lanes), lanes)


class Words:
    """Writes a band of x as words into ``planes``.

    Args:
        x: ``[images · groups, channels, height · width]``.
        zero: the zero point of x. It and x are bytes, whatever their signs.
    """

    def __init__(self, plan: Plan, x: Buffer, zero: Expr) -> None:
        self.plan, self.x = plan, x
        self.zero = zero
        grid = plan.grid
        self.planes = T.alloc_buffer((grid.input_size + grid.lanes,), "int32", align=64)
        if plan.by_rows:
            self.image = T.alloc_buffer((plan.image_rows * plan.image_columns + 2 * _LONGEST,), "uint8", align=64)

    def copy(self, image: Expr, row0: Expr) -> None:
        """The band of an image whose first output row is ``row0``."""
        if self.plan.by_rows:
            self._copy_image(image, row0)
            self._join_rows()
        elif self.plan.is_flat:
            with T.serial(0, self.plan.grid.c) as word:
                self._join_flat(image, row0, word)
        else:
            self._join_channels(image, row0)

    # -- words of channels

    def _join_flat(self, image: Expr, row0: Expr, word: Expr) -> None:
        g = self.plan.grid
        self._word_row(image, word, row0 * g.w, word * g.channel, g.tile_h * g.w, 1)

    def _join_channels(self, image: Expr, row0: Expr) -> None:
        g = self.plan.grid
        stride = g.stride[1]
        nothing = splat(self._zero_word(), g.lanes)
        with T.serial(0, g.c) as word, T.serial(0, g.row_phases) as phase, T.serial(0, g.plane_rows) as row:
            source = (row0 + row) * g.stride[0] + phase - g.top
            for column_phase in range(g.column_phases):
                plane = (phase * g.column_phases + column_phase) * g.plane_rows + row
                start = word * g.channel + plane * g.plane_columns
                first = min(g.plane_columns, max(0, -((column_phase - g.left) // stride)))
                last = min(g.plane_columns, max(first, -((column_phase - g.left - g.w) // stride)))
                column = first * stride + column_phase - g.left
                with T.If(T.And(source >= 0, source < g.h)):
                    with T.Then():
                        self._fill(start, first, nothing)
                        self._word_row(image, word, source * g.w + column, start + first, last - first, stride)
                        self._fill(start + last, g.plane_columns - last, nothing)
                    with T.Else():
                        self._fill(start, g.plane_columns, nothing)

    def _fill(self, start: Expr, count: int, word: Expr) -> None:
        for first, lanes, times in pieces(count, self.plan.grid.lanes):
            part = word if lanes == self.plan.grid.lanes else splat(self._zero_word(), lanes)
            with T.serial(0, times) as i:
                store(self.planes, start + first + i * lanes, part, lanes)

    def _word_row(self, image: Expr, word: Expr, place: Expr, start: Expr, count: int, stride: int) -> None:
        """``count`` words of codes that are ``stride`` apart. Where channels end before the last word does, the codes
        of its last channel stand in for those that are missing, whose weights are zero."""
        plan = self.plan
        most = plan.grid.lanes if stride <= 2 else 1
        channels = [word * WORD + k for k in range(WORD)]
        if plan.channels % WORD:
            channels = [T.min(channel, plan.channels - 1) for channel in channels]

        def run(begin: int, length: int, widest: int) -> None:
            for first, lanes, times in pieces(length, widest):
                with T.serial(0, times) as i:
                    offset = begin + first + i * lanes
                    codes = [self._codes(image, c, place + offset * stride, lanes, stride) for c in channels]
                    store(self.planes, start + offset, self._joined(codes, lanes), lanes)

        if stride == 2 and count > 1:  # vectors read a code beyond their last
            run(0, count - 1, most)
            run(count - 1, 1, 1)
        else:
            run(0, count, most)

    def _codes(self, image: Expr, channel: Expr, place: Expr, lanes: int, stride: int) -> Expr:
        """``lanes`` codes of x, ``stride`` apart, as int32."""
        if lanes == 1 or stride == 1:
            return T.Cast(_vector("int32", lanes), load(self.x, (image, channel, place), lanes))
        return _even(load(self.x, (image, channel, place), 2 * lanes), lanes)

    # -- words of rows

    def _copy_image(self, image: Expr, row0: Expr) -> None:
        plan, g = self.plan, self.plan.grid
        width = plan.image_columns
        last = max(g.left, min(width, g.left + g.w))
        with T.serial(0, plan.image_rows) as row:
            source = row0 * g.stride[0] + row - g.top
            start = row * width
            with T.If(T.And(source >= 0, source < g.h)):
                with T.Then():
                    self._pad(start, min(g.left, width))
                    copy(
                        self.image,
                        start + g.left,
                        lambda offset, lanes: load(self.x, (image, 0, source * g.w + offset), lanes),
                        last - g.left,
                    )
                    self._pad(start + last, width - last)
                with T.Else():
                    self._pad(start, width)

    def _pad(self, start: Expr, count: int) -> None:
        copy(self.image, start, lambda offset, lanes: splat(self.zero, lanes), count)

    def _join_rows(self) -> None:
        g = self.plan.grid
        with T.serial(0, g.c) as word:
            for phase in range(g.column_phases):  # what a row writes beyond its end comes before the next row's words
                with T.serial(0, g.plane_rows) as row:
                    self._join_row(word, phase, row)

    def _join_row(self, word: Expr, phase: int, row: Expr) -> None:
        plan, g = self.plan, self.plan.grid
        start = word * g.channel + (phase * g.plane_rows + row) * g.plane_columns
        with T.serial(0, -(-g.plane_columns // g.lanes)) as i:
            column = i * g.lanes * g.stride[1] + phase
            codes = [self._image_codes(word * WORD + k, row, column) for k in range(min(WORD, plan.filter_rows))]
            store(self.planes, start + i * g.lanes, self._joined(codes, g.lanes), g.lanes)

    def _image_codes(self, tap: Expr, row: Expr, column: Expr) -> Expr:
        """The codes that row ``tap`` of the filter meets, from a column of the copied image on."""
        plan, g = self.plan, self.plan.grid
        if plan.filter_rows > WORD and plan.filter_rows % WORD:
            tap = T.min(tap, plan.filter_rows - 1)
        place = (row * g.stride[0] + tap * g.dilation[0]) * plan.image_columns + column
        stride = g.stride[1]
        if stride == 1:
            return T.Cast(_vector("int32", g.lanes), load(self.image, place, g.lanes))
        if stride == 2:
            return _even(load(self.image, place, 2 * g.lanes), g.lanes)
        return T.Cast(_vector("int32", g.lanes), self.image[T.ramp(place, stride, g.lanes)])

    # -- words

    def _zero_word(self) -> Expr:
        return self._unsigned(T.Cast("int32", self.zero) * 0x01010101, 1)

    def _joined(self, codes: list[Expr], lanes: int) -> Expr:
        """Codes as the bytes of words, the first lowest."""
        joined = codes[0]
        for k, code in enumerate(codes[1:], start=1):
            joined = T.bitwise_or(joined, T.shift_left(code, constant(8 * k, "int32", lanes)))
        return self._unsigned(joined, lanes)

    def _unsigned(self, words: Expr, lanes: int) -> Expr:
        """128 more than signed codes."""
        if not self.plan.offset:
            return words
        return T.bitwise_xor(words, constant(-0x7F7F7F80, "int32", lanes))


def _even(codes: Expr, lanes: int) -> Expr:
    """Every second of twice as many codes, as int32."""
    pairs = T.bitwise_and(T.reinterpret(_vector("uint16", lanes), codes), constant(255, "uint16", lanes))
    return T.Cast(_vector("int32", lanes), pairs)


def _vector(dtype: str, lanes: int) -> str:
    return f"{dtype}x{lanes}" if lanes > 1 else dtype
