"""A table of labels by identifier, in the place of those of a survey: filled in by a person, as `varstar ask` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.known_stars import read_known_stars
from varstar_batch.errors import InputError


def read_given(url: str) -> dict[str, str]:
    """Return the labels of a table by object_id, as text; stars whose label is not filled in are left out.

    Raises
    ------
    InputError
        It is no such table, no label is filled in, or a star has two.
    """
    known = read_known_stars(url, what="table of labels")
    if known.object_id is None:
        raise InputError(
            expected="a table of labels with a column object_id",
            got="none",
            where=url,
            fix="give one, such as varstar ask writes",
        )
    labels: dict[str, str] = {}
    for name, label in zip(known.object_id.cast(pa.string()).to_pylist(), known.label.to_pylist(), strict=True):
        if labels.setdefault(name, label) != label:
            raise InputError(
                expected="one label of each star",
                got=f"{labels[name]!r} and {label!r} of {name}",
                where=url,
                fix="leave one of them out",
            )
    return labels


def given_labels(ids: Sequence[pa.Array], given: Mapping[str, str]) -> pa.ChunkedArray:
    """Return the labels that objects have in a table, large_string (n,); null of those that it does not have."""
    names = pa.chunked_array(ids).cast(pa.large_string()) if ids else pa.chunked_array([], pa.large_string())
    row = pc.index_in(names, pa.array(list(given), pa.large_string()))
    return pa.chunked_array(pa.array(list(given.values()), pa.large_string()).take(row))
