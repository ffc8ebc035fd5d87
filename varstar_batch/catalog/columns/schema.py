"""The columns of a catalog: names, types, units, UCDs and descriptions, each in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.columns.voparquet import string_lengths, voparquet_metadata
from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.status import STATUS_LABELS
from varstar_batch.model.classify import Classification
from varstar_batch.model.family import LEVELS, Outputs
from varstar_batch.model.periods import PERIOD_FLAGS
from varstar_batch.sky import HEALPIX_COLUMN, cells_of
from varstar_batch.survey.columns import PERIOD_ORIGIN
from varstar_batch.survey.labels import LabelReader
from varstar_batch.survey.read import SurveyBatch

ROW_GROUP_ROWS = 32_768
"""Rows of a row group: measured on 20 million rows, a cone takes half the time that it takes with twice as many, since
all columns of a row group are read for the few rows in it; a scan takes no longer, and the footers stay below 1 %."""

PARENT_SETS = tuple(f"parents_{level}" for level in LEVELS)
"""Columns of the sets of parents."""

BETWEEN = "|"
"""Stands between the parents of a set."""

SORT_ORDER = 13
"""Order of the HEALPix cells (26 arcsec) that rows with positions are sorted by where the survey has no such column."""

BLOOM_FALSE_POSITIVES = 0.05
"""Share of row groups without an identifier that a look-up reads all the same; one byte for each object buys this."""


def write_options(rows: int) -> dict[str, Any]:
    """Return how a catalog file of `rows` rows is written: dictionaries only where few values repeat."""
    bloom = {"ndv": min(max(rows, 1), ROW_GROUP_ROWS), "fpp": BLOOM_FALSE_POSITIVES}
    return {
        "compression": "zstd",
        "use_dictionary": [
            *(PERIOD_ORIGIN, "status", "class", "label", "label_class", "second_class"),
            *("parent", "subclass", *PARENT_SETS, "period_flag", "best_class", "model_version", "run_id"),
        ],
        "write_page_index": True,
        "write_page_checksum": True,
        "bloom_filter_options": {"object_id": bloom},
    }


class ColumnMeaning(NamedTuple):
    """What a column says."""

    unit: str
    """VOUnits text; empty for a dimensionless column."""
    ucd: str
    """Unified Content Descriptor 1+ (IVOA REC-UCD1+)."""
    description: str
    """One sentence."""


_MEANINGS = {
    "object_id": ColumnMeaning("", "meta.id;meta.main", "Identifier of the object, as the survey gives it"),
    "ra": ColumnMeaning("deg", "pos.eq.ra;meta.main", "Right ascension, as the survey gives it"),
    "dec": ColumnMeaning("deg", "pos.eq.dec;meta.main", "Declination, as the survey gives it"),
    "period": ColumnMeaning("d", "time.period", "Period that the light curve was folded with"),
    PERIOD_ORIGIN: ColumnMeaning(
        "",
        "meta.ref;time.period",
        "Where the period is from: survey, second table of its ingest, found by search, or better (best_period, with "
        "--use-best-period)",
    ),
    "n_obs": ColumnMeaning("", "meta.number;obs", "Observations in the survey"),
    "n_obs_by_band": ColumnMeaning("", "meta.number;obs;instr.bandpass", "Observations by band, such as g:120, r:96"),
    "n_used": ColumnMeaning("", "meta.number;obs", "Observations that survived cleaning"),
    "amplitude": ColumnMeaning("mag", "src.var.amplitude", "Faintest less brightest used observation"),
    "status": ColumnMeaning("", "meta.code.status", "ok, or why the object was not classified"),
    "class": ColumnMeaning("", "meta.code.class;src.var", "Most probable class"),
    "label": ColumnMeaning("", "meta.code.class;src.var", "Label of the object, as the survey writes it"),
    "label_class": ColumnMeaning("", "meta.code.class;src.var", "Class that the label means, null where it names none"),
    "class_prob": ColumnMeaning("", "stat.probability", "Probability of that class"),
    "second_class": ColumnMeaning("", "meta.code.class;src.var", "Second most probable class"),
    "margin": ColumnMeaning("", "stat.probability", "Probability of the first class less that of the second"),
    "entropy": ColumnMeaning("", "stat.value", "Shannon entropy of the probabilities, in nat"),
    "ood_score": ColumnMeaning("", "stat.rank", "Share of held-out training stars that look more familiar, 0 to 1"),
    "parent": ColumnMeaning(
        "", "meta.code.class;src.var", "Most probable parent, such as LPV for M and SR; null where the model has none"
    ),
    "parent_prob": ColumnMeaning("", "stat.probability", "Its probability, the sum of those of its classes"),
    "subclass": ColumnMeaning(
        "", "meta.code.class;src.var", "Most probable subclass of the class, such as RRAB; null where it has none"
    ),
    "subclass_prob": ColumnMeaning("", "stat.probability", "Its probability, at most that of the class"),
    **{
        name: ColumnMeaning(
            "",
            "meta.code.class;src.var",
            f"Parents that it may be of, with {BETWEEN} between; the true one is among them for {level} % of stars",
        )
        for name, level in zip(PARENT_SETS, LEVELS, strict=True)
    },
    "period_flag": ColumnMeaning(
        "",
        "meta.code.qual;time.period",
        "Whether another period fits better than the survey's: ok; 2P, P/2, 3P or 1 d alias, which best_period is; "
        "doubtful: not right, and none of these is either; null where not asked",
    ),
    "best_period": ColumnMeaning(
        "d", "time.period", "Period that fits best, the survey's own where period_flag is ok; null where it is doubtful"
    ),
    "best_class": ColumnMeaning("", "meta.code.class;src.var", "Most probable class with that period"),
    "model_version": ColumnMeaning("", "meta.version", "Version of the model bundle"),
    "run_id": ColumnMeaning("", "meta.id;meta.dataset", "Run that classified the object"),
    "carried": ColumnMeaning("", "meta.code", "Whether the row is an earlier run's: its partition failed in this one"),
    HEALPIX_COLUMN: ColumnMeaning("", "pos.healpix", "HEALPix cell of order 29, nested numbering"),
}


def catalog_schema(object_id: pa.DataType, classes: tuple[str, ...], *, healpix: bool) -> pa.Schema:
    """Return the schema of a catalog partition.

    Parameters
    ----------
    object_id : pa.DataType
        The survey's own type of identifier.
    classes : tuple of str
        Class names, in the order of the probabilities.
    healpix : bool
        Whether the survey is a HATS catalog.

    Returns
    -------
    pa.Schema
        Every field carries ``unit``, ``ucd`` and ``description`` in its metadata; the schema as a whole says the same
        in VOParquet's way.
    """
    columns = [(HEALPIX_COLUMN, pa.int64())] if healpix else []
    columns += [
        ("object_id", object_id),
        ("ra", pa.float64()),
        ("dec", pa.float64()),
        ("period", pa.float64()),
        (PERIOD_ORIGIN, pa.string()),
        ("n_obs", pa.int32()),
        ("n_obs_by_band", pa.string()),
        ("n_used", pa.int32()),
        ("amplitude", pa.float32()),
        ("status", pa.string()),
        *((f"prob_{name}", pa.float32()) for name in classes),
        ("class", pa.string()),
        ("label", pa.string()),
        ("label_class", pa.string()),
        ("class_prob", pa.float32()),
        ("second_class", pa.string()),
        ("margin", pa.float32()),
        ("entropy", pa.float32()),
        ("ood_score", pa.float32()),
        ("parent", pa.string()),
        ("parent_prob", pa.float32()),
        ("subclass", pa.string()),
        ("subclass_prob", pa.float32()),
        *((name, pa.string()) for name in PARENT_SETS),
        ("period_flag", pa.string()),
        ("best_period", pa.float64()),
        ("best_class", pa.string()),
        ("model_version", pa.string()),
        ("run_id", pa.string()),
        ("carried", pa.bool_()),
    ]
    schema = pa.schema([pa.field(name, kind, metadata=_field_metadata(name)) for name, kind in columns])
    # Eight characters at least, since astropy writes a null of a text column as "None".
    longest = max(8, *(len(name) for name in classes))
    lengths = dict.fromkeys(("class", "label_class", "second_class", "best_class"), longest)
    lengths |= dict.fromkeys(("parent", "subclass"), 32) | dict.fromkeys(PARENT_SETS, 128)
    lengths |= {"label": 64, "status": 32, "model_version": 128, "run_id": 32, "n_obs_by_band": 96, PERIOD_ORIGIN: 16}
    lengths["period_flag"] = 16
    vo = voparquet_metadata(schema, table="catalog", description="Class probabilities of variable stars")
    return schema.with_metadata(vo | string_lengths(lengths))


def sort_rows(table: pa.Table) -> pa.Table:
    """Return a partition's rows in the order in which they are stored, so that readers can skip most row groups.

    Rows with positions go by HEALPix cell, as HATS has it: a cone then touches few row groups, and single identifiers
    are found by the bloom filters. Rows without go by object_id.
    """
    if HEALPIX_COLUMN in table.column_names:
        return table.sort_by([(HEALPIX_COLUMN, "ascending"), ("object_id", "ascending")])
    cells = cells_of(table["ra"].to_numpy(), table["dec"].to_numpy(), SORT_ORDER)
    if (cells < 0).all():
        return table.sort_by("object_id")
    keys = pa.table({"cell": pa.array(cells), "object_id": table["object_id"]})
    return table.take(pc.sort_indices(keys, [("cell", "ascending"), ("object_id", "ascending")]))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What every row of a run has in common."""

    outputs: Outputs
    """Classes, parents and subclasses of the model."""
    model_version: str
    run_id: str
    labels: Mapping[str, str]
    """Meanings of labels, see `LabelReader`."""


@dataclass(frozen=True, eq=False)
class PeriodColumns:
    """What is said of the periods of n objects."""

    flag: np.ndarray
    """Int8 (n,). Index into `PERIOD_FLAGS`; -1 where it was not asked."""
    best: np.ndarray
    """Float64 (n,). Days; NaN where none is known."""
    class_code: np.ndarray
    """Int8 (n,). Class with that period; -1 where there is none."""


def catalog_rows(
    batch: SurveyBatch, folded: Folded, result: Classification, periods: PeriodColumns, provenance: Provenance
) -> pa.Table:
    """Turn a classified batch into catalog rows, one for every object of the batch and in its order.

    Parameters
    ----------
    batch : SurveyBatch
        The n objects as read.
    folded : Folded
        The same n objects, folded.
    result : Classification
        Probabilities and what follows from them, NaN (null in the catalog) where an object was not classified.
    periods : PeriodColumns
        Whether others fit better.
    provenance : Provenance
        Names, model version and run.
    """
    objects = batch.objects
    healpix = HEALPIX_COLUMN in objects.column_names
    outputs = provenance.outputs
    classes = outputs.classes
    schema = catalog_schema(objects.schema.field("object_id").type, classes, healpix=healpix)
    rows = objects.num_rows
    names = pa.array(classes, pa.string())
    label_codes = LabelReader(classes, provenance.labels).codes(objects["class"])
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        name: objects[name] for name in ("object_id", "ra", "dec", "period")
    }
    if healpix:  # carried over from a HATS survey, so that its catalog is one too
        columns[HEALPIX_COLUMN] = objects[HEALPIX_COLUMN]
    columns |= {
        PERIOD_ORIGIN: objects[PERIOD_ORIGIN].cast(pa.string()),
        "n_obs": pa.array(folded.n_obs),
        "n_obs_by_band": pa.nulls(rows, pa.string()) if batch.by_band is None else batch.by_band.texts(),
        "n_used": pa.array(folded.n_used),
        "amplitude": _nullable(folded.amplitude),
        "status": pa.array(STATUS_LABELS, pa.string()).take(pa.array(result.status)),
        "class": names.take(_codes(result.class_code)),
        "second_class": names.take(_codes(result.second_code)),
        "label": objects["class"].cast(pa.string()),
        "label_class": names.take(_codes(label_codes)),
        "class_prob": _nullable(result.class_prob),
        "margin": _nullable(result.margin),
        "entropy": _nullable(result.entropy),
        "ood_score": _nullable(result.ood_score),
        "parent": pa.array(outputs.parents, pa.string()).take(_codes(result.parent_code)),
        "parent_prob": _nullable(result.parent_prob),
        "subclass": pa.array(outputs.leaves, pa.string()).take(_codes(result.subclass_code)),
        "subclass_prob": _nullable(result.subclass_prob),
        **{name: _set_texts(outputs, result.parent_sets[:, k]) for k, name in enumerate(PARENT_SETS)},
        "period_flag": pa.array(PERIOD_FLAGS, pa.string()).take(_codes(periods.flag)),
        "best_period": pa.array(periods.best, pa.float64(), from_pandas=True),
        "best_class": names.take(_codes(periods.class_code)),
        "model_version": pa.repeat(provenance.model_version, rows),
        "run_id": pa.repeat(provenance.run_id, rows),
        "carried": pa.repeat(False, rows),
    }
    for index, name in enumerate(classes):
        columns[f"prob_{name}"] = _nullable(result.probabilities[:, index])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(values, dtype=np.float32), from_pandas=True)


def _codes(codes: np.ndarray) -> pa.Array:
    return pa.array(codes, pa.int8(), mask=codes < 0)


def _set_texts(outputs: Outputs, sets: npt.NDArray[np.bool_]) -> pa.Array:
    """Return sets of parents, bool (n, n_parents), as texts; null where empty."""
    if not sets.size:
        return pa.nulls(len(sets), pa.string())
    packed = np.packbits(sets, axis=1)
    kind = pa.binary(packed.shape[1])
    encoded = pa.Array.from_buffers(kind, len(sets), [None, pa.py_buffer(packed)]).dictionary_encode()
    different = [np.frombuffer(row, np.uint8) for row in encoded.dictionary.to_pylist()]
    members = [np.unpackbits(row, count=sets.shape[1]).astype(np.bool_) for row in different]
    texts = [BETWEEN.join(np.array(outputs.parents)[row]) or None for row in members]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _field_metadata(name: str) -> dict[str, str]:
    if name.startswith("prob_"):
        return ColumnMeaning("", "stat.probability", f"Probability of class {name.removeprefix('prob_')}")._asdict()
    return _MEANINGS[name]._asdict()
