"""Finding the object of an observation by its identifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.files.parquet import one_chunk
from varstar_batch.ingest.plan import ORPHANS_SHOWN, IntArray


class Positions:
    """Which object an identifier belongs to.

    The identifiers are kept sorted, texts as bytes of fixed width, and found by binary search: Arrow's own look-up
    would build a hash table of all objects anew for every batch (0.4 s for a million, against 6 ms for a batch
    of 50,000).
    """

    def __init__(self, object_ids: pa.ChunkedArray) -> None:
        self._ids = one_chunk(object_ids)
        self._width = 0
        if pa.types.is_large_string(self._ids.type):
            self._width = max(1, pc.max(pc.binary_length(self._ids)).as_py())
        keys = self._keys(self._ids)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, ids: pa.Array) -> tuple[IntArray, tuple[str, ...]]:
        """Return the index of each identifier's object, -1 where there is none, and some identifiers without object."""
        encoded = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
        names = encoded.dictionary.cast(self._ids.type)
        place = np.minimum(np.searchsorted(self._sorted, self._keys(names)), len(self._ids) - 1)
        of_name = self._order[place]
        # The keys of texts that are too long, or end in a NUL, are not exact: only equal identifiers count.
        same = pc.equal(names, self._ids.take(pa.array(of_name))).to_numpy(zero_copy_only=False)
        of_name = np.where(same, of_name, -1)
        codes = encoded.indices.fill_null(len(names)).to_numpy().astype(np.int64)
        index = np.append(of_name, -1)[codes]
        orphans = names.filter(pa.array(~same)).slice(0, ORPHANS_SHOWN).cast(pa.large_string()).to_pylist()
        if encoded.null_count:
            orphans.append("null")
        return index, tuple(orphans)

    def _keys(self, ids: pa.Array) -> npt.NDArray[Any]:
        if not self._width:
            keys: npt.NDArray[Any] = ids.to_numpy()
            return keys
        short = pc.if_else(pc.less_equal(pc.binary_length(ids), self._width), ids, "")
        padded = pc.ascii_rpad(short, width=self._width, padding="\0")
        return np.frombuffer(padded.buffers()[2], dtype=f"S{self._width}", count=len(ids))
