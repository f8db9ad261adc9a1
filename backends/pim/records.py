"""Records of whole numbers, which compiled functions read and write as attributes.

An array is passed to a compiled function as all its extents, a record as one pointer, and a field is one load. So what
is read by name is in records: code of arrays takes several times as long to compile.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.record]


def record(*fields: str) -> np.dtype[np.record]:
    """The type of a record of 64-bit numbers."""
    layout = np.dtype([(field, np.int64) for field in fields], align=True)
    return cast("np.dtype[np.record]", np.dtype((np.record, layout)))
