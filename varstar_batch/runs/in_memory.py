"""Light curves in memory, cleaned, folded and classified as a run does it, without a folder or a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import pyarrow as pa

from varstar_batch.catalog.columns.rows import Rows
from varstar_batch.catalog.columns.schema import Provenance, catalog_schema
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.engine import Engine, EngineName, Precision
from varstar_batch.model.engines.open import open_engine
from varstar_batch.runs.plan import check_line
from varstar_batch.runs.questioned import classify_questioned, fold_questioned, rows_of
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.folded import folded_rows, folded_schema
from varstar_batch.survey.in_memory import InMemory
from varstar_batch.survey.read import batch_observations

BATCH_MEMORY = 256 * 2**20
"""Bytes of light curves and curves at once."""

OF_RUNS = ("run_id", "carried")
"""Columns of a catalog that say nothing where there is no run."""


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to answer."""

    bundle: Bundle
    engine: Engine
    threads: int

    @classmethod
    def of(
        cls,
        model: Bundle | str | os.PathLike[str] | None,
        engine: EngineName = "auto",
        precision: Precision = "float32",
    ) -> Classifier:
        """Return the classifier of a bundle, or of the place of one; opened once where it is the same again."""
        bundle = model if isinstance(model, Bundle) else read_bundle(model)
        return _opened(_Key(bundle), engine, precision)

    def classify(
        self, light_curves: InMemory, *, mira_amplitude: float | None = None, use_best_period: bool = False
    ) -> Rows:
        """Return the catalog's row of every object, in their order; the other two are as `RunConfig` has them.

        Raises
        ------
        InputError
            They cannot be read as they are, or the model has no classes that `mira_amplitude` divides.
        """
        contract, source = self.bundle.contract, light_curves.source
        check_line(contract, mira_amplitude)
        provenance = Provenance(outputs=contract.outputs, model_version=contract.model_version, run_id="", labels={})
        schema = catalog_schema(
            pa.type_for_alias(source.object_id_type), contract.classes, healpix=source.columns.healpix is not None
        )
        tables = [schema.empty_table()]
        for batch in light_curves.batches(batch_observations(BATCH_MEMORY)):
            folded = fold_questioned(batch, self.bundle, source.limits, self.threads)
            classified = classify_questioned(self.bundle, self.engine, folded, mira_amplitude)
            tables.append(rows_of(classified, provenance, use_best_period=use_best_period))
        return Rows(pa.concat_tables(tables).combine_chunks().drop_columns(list(OF_RUNS)))


def fold_in_memory(light_curves: InMemory, preprocessing: Preprocessing) -> Rows:
    """Return status, counts, amplitude and folded curve of every object, in their order.

    Raises
    ------
    InputError
        They cannot be read as they are.
    """
    source = light_curves.source
    schema = folded_schema(source, preprocessing)
    tables = [schema.empty_table()]
    for batch in light_curves.batches(batch_observations(BATCH_MEMORY)):
        folded = fold_batch(batch, preprocessing, source.limits, n_threads=_cores()).of_objects()
        tables.append(folded_rows(batch, folded, schema))
    return Rows(pa.concat_tables(tables))


class _Key:
    """A bundle that equals another one by its hash."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.hash = bundle, bundle.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        return self.hash == cast("_Key", other).hash


@lru_cache(maxsize=4)
def _opened(key: _Key, engine: EngineName, precision: Precision) -> Classifier:
    return Classifier(key.bundle, open_engine(key.bundle, engine, precision, _cores()), _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0))
