"""UUIDs judged by their bytes, many at once, after they were written.

By pattern, row by row, one column of them costs as much as six columns of numbers. In Parquet and Arrow the texts of a
column stand one behind the other, and what must hold of 36 bytes is counted for thousands of values together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

UUID_BYTES = 36
_DASHES = (8, 13, 18, 23)
_BATCH_ROWS = 8_192  # the comparisons of a batch stay in the processor's cache


def all_plain_uuids(path: Path, columns: Sequence[str]) -> bool:
    """Whether every value of these text columns is empty or a UUID in lower case with its four dashes (RFC 9562).

    :param path: a Parquet file in which each value of them has 36 bytes.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return all(
            _are_plain(_text_bytes(column))
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)
            for column in batch.columns
        )


def _text_bytes(column: pa.StringArray) -> np.ndarray:
    """The texts of a column without a gap; an empty value has none."""
    import numpy as np

    _, offsets, texts = column.buffers()
    if texts is None:
        return np.empty(0, "u1")
    ends = np.frombuffer(offsets, "i4")[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(texts, "u1")[ends[0] : ends[-1]]


def _are_plain(texts: np.ndarray) -> bool:
    import numpy as np

    values = texts.reshape(-1, UUID_BYTES)
    # unsigned: what lies below "0" or "a" wraps around to a large number
    hexadecimal = np.count_nonzero(texts - np.uint8(ord("0")) < 10) + np.count_nonzero(texts - np.uint8(ord("a")) < 6)
    return hexadecimal == (UUID_BYTES - len(_DASHES)) * len(values) and all(
        np.count_nonzero(values[:, place] == ord("-")) == len(values) for place in _DASHES
    )
