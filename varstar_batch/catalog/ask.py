"""Which stars of a catalog a person should label, so that a training learns most from few labels."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.errors import InputError

POOL = 40
"""Stars that are looked at for each that is asked for: drawn with chances by their doubt."""

LEAST_DOUBT = 0.02
"""Doubt of a star of which the model is sure, nat: among so many there are some that it is wrongly sure of."""

Floats = npt.NDArray[np.float64]


def stars_to_label(reader: CatalogReader, n: int, labelled: Collection[str] = ()) -> pa.Table:
    """Return the stars whose labels would teach most, the first first, with an empty column `class` to fill in.

    Stars are drawn with chances in proportion to the entropy of their probabilities, always the same ones of a run. Of
    those the most doubtful comes first, and then, one after the other, the star whose doubt, times the square of its
    distance (in probabilities, period and amplitude) from all that were taken, is the largest.

    Parameters
    ----------
    reader : CatalogReader
    n : int
        At least 1.
    labelled : collection of str
        Identifiers, as text, of stars that are not to be asked for again.

    Raises
    ------
    InputError
        There is no classified star without a label.

    Notes
    -----
    Source: doubt and distance together after Ash et al. 2020 (arXiv:1906.03671) and Sener and Savarese 2018
    (arXiv:1708.00489); the draw after Efraimidis and Spirakis 2006 (IPL 97, 181).
    """
    pool = _pool(reader, POOL * n + len(labelled))
    names = pool["object_id"].cast(pa.string())
    pool = pool.filter(pc.invert(pc.is_in(names, pa.array(list(labelled), pa.string()))))
    if not len(pool):
        raise InputError(
            expected="classified stars without a label",
            got="none",
            where=str(reader),
            fix="classify the survey first, or label what has been asked for",
        )
    probabilities = np.stack([pool[f"prob_{name}"].to_numpy() for name in reader.classes], axis=1).astype(np.float64)
    place = np.hstack([np.sqrt(probabilities), _standard(pool["period"]), _standard(pool["amplitude"])])
    taken = _spread_out(place, pool["entropy"].to_numpy().astype(np.float64) + LEAST_DOUBT, n)
    chosen = pool.take(pa.array(taken))
    columns = {name: chosen[name] for name in ("object_id", "ra", "dec", "period", "amplitude")}
    columns["class"] = pa.nulls(len(chosen), pa.string())
    answers = {
        "answer": "class",
        "probability": "class_prob",
        "second_answer": "second_class",
        "ood_score": "ood_score",
    }
    return pa.table({**columns, **{name: chosen[column] for name, column in answers.items()}})


def _pool(reader: CatalogReader, most: int) -> pa.Table:
    """Return classified stars, drawn with chances by their doubt, as SQL can do on a catalog of any size."""
    names = [
        "object_id",
        "ra",
        "dec",
        "period",
        "amplitude",
        "class",
        "class_prob",
        "second_class",
        "ood_score",
        "entropy",
    ]
    columns = ", ".join(f'"{name}"' for name in [*names, *(f"prob_{label}" for label in reader.classes)])
    # A hash of the identifier is the same chance in every run.
    chance = "(hash(object_id) / 18446744073709551616.0 + 1e-12)"
    with reader.open_queries() as ask:
        return ask(
            f'SELECT {columns} FROM catalog WHERE "class" IS NOT NULL '
            f"ORDER BY -ln({chance}) / (entropy + {LEAST_DOUBT}), object_id LIMIT {most}"
        ).table()


def _standard(column: pa.ChunkedArray) -> Floats:
    """Return the logarithm of a positive quantity in standard deviations, (n, 1); 0 where it is not known."""
    values = column.to_numpy().astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(values)
    known = np.isfinite(logs)
    scaled = np.zeros(len(logs))
    if known.any():
        scaled[known] = (logs[known] - logs[known].mean()) / max(float(logs[known].std()), 1e-9)
    return scaled[:, None]


def _spread_out(place: Floats, doubt: Floats, n: int) -> npt.NDArray[np.int64]:
    """Return up to n rows, each the most doubtful and the farthest from those before it."""
    left = np.full(len(place), np.inf)
    taken = [int(doubt.argmax())]
    for _ in range(min(n, len(place)) - 1):
        left = np.minimum(left, ((place - place[taken[-1]]) ** 2).sum(axis=1))
        worth = left * doubt
        worth[taken] = -1.0
        taken.append(int(worth.argmax()))
    return np.array(taken, np.int64)
