"""Reading a published catalog from Python: Arrow, pandas, astropy, Dask, LSDB, SQL, cones, single stars.

    catalog = varstar_batch.open_catalog("s3://bucket/catalog")
    catalog.query("SELECT class, count(*) FROM catalog GROUP BY class").read_all()

Nothing here loads a whole catalog unless it is asked for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.rows import Rows, polars_frame
from varstar_batch.catalog.columns.vo_files import with_meanings
from varstar_batch.catalog.columns.voparquet import astropy_table
from varstar_batch.catalog.cone import cone_of, cone_schema, cone_tables
from varstar_batch.catalog.run_files.finish import run_files
from varstar_batch.catalog.run_files.history import list_runs, published_runs, resolve_run
from varstar_batch.catalog.run_files.index import INDEX_NAME, RowGroupIndex
from varstar_batch.catalog.run_files.root import Catalog, open_catalog_root
from varstar_batch.catalog.run_files.tables import RUN_RECORD, objects_line
from varstar_batch.catalog.sql.process import Parameters, QueryLimits, open_process
from varstar_batch.catalog.sql.session import Answer, open_duckdb, open_session, run_select, scan
from varstar_batch.errors import InputError
from varstar_batch.files.hats_relations import COLLECTION
from varstar_batch.files.location import Location
from varstar_batch.files.parquet import read_table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as ds
    from astropy.table import Table
    from dask.dataframe import DataFrame as DaskFrame
    from lsdb import Catalog as LsdbCatalog

    from varstar_batch.catalog.known_stars.validate import Validation


RUNS_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("run_id", "state", "published"), pa.string()),
        **dict.fromkeys(("objects", "classified", "failed_partitions"), pa.int64()),
        **dict.fromkeys(("model", "why"), pa.string()),
    }
)


@dataclass(frozen=True, repr=False)
class CatalogReader:
    """One published run of a catalog, for reading."""

    catalog: Catalog
    """The catalog root."""
    run_id: str
    """The run that is read."""

    def __str__(self) -> str:
        return f"{self.catalog} (run {self.run_id})"

    def __repr__(self) -> str:
        return "\n".join(f"{name:<8} {text}" for name, text in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in self._facts().items())
        return f"<table>{rows}</table>"

    def _facts(self) -> dict[str, str]:
        record = self.record
        return {
            "catalog": str(self.catalog),
            "run": f"{self.run_id}, finished {record.get('finished', 'nobody knows when')}",
            "objects": objects_line(record),
            "status": _told(record["status"]),
            "classes": _told(record["classes"]),
            "model": f"{record['model']['name']} {record['model']['version']}",
            "files": f"{len(self.files):,} in {self.path}",
        }

    def __len__(self) -> int:
        return int(self.record["rows"])

    @property
    def run(self) -> Location:
        """The run's folder."""
        return self.catalog.run(self.run_id)

    @property
    def path(self) -> str:
        """The folder of the run's Parquet files, a path or URL for any other reader: ``{path}/**/*.parquet``.

        It stays as it is when a later run is published: open the catalog again for that one.
        """
        return str(self.run / "dataset")

    @cached_property
    def record(self) -> dict[str, Any]:
        """What is known of the run as a whole: ``run.json``. Raises InputError where it is lost."""
        record = self.catalog.read_json(self.run_id, RUN_RECORD)
        if record is None:
            raise self._damaged(RUN_RECORD)
        return record

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return tuple(self.record["model"]["classes"])

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Keys of the dataset's files in the run's folder, one for each partition of the survey."""
        try:
            return tuple(run_files(self.run, self.record["layout"]))
        except FileNotFoundError:
            raise self._damaged("partitions.parquet") from None

    @cached_property
    def locations(self) -> tuple[Location, ...]:
        """Where these files are."""
        return tuple(self.run / key for key in self.files)

    @cached_property
    def index(self) -> RowGroupIndex:
        """What every row group spans."""
        try:
            return RowGroupIndex(read_table(self.run / INDEX_NAME))
        except FileNotFoundError:
            raise self._damaged("the index of row groups") from None

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the rows; units, UCDs and descriptions are in the metadata of its fields."""
        if not self.files:
            raise self._damaged("every partition")
        try:
            with self.locations[0].open_input() as stream:
                return pq.read_schema(stream)
        except FileNotFoundError:
            raise self._damaged(self.files[0]) from None

    def at(self, run: str) -> CatalogReader:
        """Return the same catalog at another run: an identifier, its beginning, ``previous`` or ``current``."""
        return CatalogReader(self.catalog, resolve_run(self.catalog, run))

    def runs(self) -> Rows:
        """Return the runs of the catalog, oldest first, with state, counts, model, and why one is held."""
        found = list_runs(self.catalog)
        rows = [
            {
                "run_id": run.run_id,
                "state": run.state,
                "published": run.published,
                "objects": run.record.get("rows"),
                "classified": run.record.get("status", {}).get("ok"),
                "failed_partitions": run.record.get("failed_partitions"),
                "model": run.record.get("model", {}).get("version"),
                "why": run.why,
            }
            for run in found
        ]
        return Rows(pa.Table.from_pylist(rows, schema=RUNS_SCHEMA))

    def dataset(self) -> ds.Dataset:
        """Return the rows as an Arrow dataset, which reads nothing yet."""
        # Takes half a second, since it loads pandas; of the commands only those that ask for rows need it.
        import pyarrow.dataset as ds

        paths = [location.path for location in self.locations]
        fs = None if self.run.is_local else self.run.fs
        return ds.dataset(paths, schema=self.schema, format="parquet", filesystem=fs)

    def to_batches(
        self, columns: Sequence[str] | None = None, where: ds.Expression | str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows.

        Parameters
        ----------
        columns : sequence of str, optional
            All by default.
        where : str or pyarrow.dataset.Expression, optional
            SQL such as ``"class = 'RR' AND class_prob > 0.9"``, or ``pc.field("class") == "RR"``; row groups that
            cannot match are not read.

        Raises
        ------
        InputError
            DuckDB does not understand `where`, or there is no such column.
        """
        if isinstance(where, str):
            names = self._known(columns)
            schema = pa.schema([self.schema.field(name) for name in names], metadata=self.schema.metadata)
            chosen = ", ".join(f'"{name}"' for name in names)
            # On a line of its own, a comment at the end of the text hides no parenthesis.
            with self.open_query(f"SELECT {chosen} FROM catalog WHERE (\n{where}\n)") as answer:
                for batch in answer:
                    yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
            return
        yield from self.dataset().to_batches(columns=self._known(columns), filter=where, batch_readahead=2)

    def to_arrow(self, columns: Sequence[str] | None = None, where: ds.Expression | str | None = None) -> pa.Table:
        """Read rows into an Arrow table; see `to_batches`."""
        names = self._known(columns)
        if isinstance(where, str):
            schema = pa.schema([self.schema.field(name) for name in names], metadata=self.schema.metadata)
            return pa.Table.from_batches(self.to_batches(names, where), schema=schema)
        return self.dataset().to_table(columns=names, filter=where)

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        names = self.schema.names if columns is None else list(columns)
        if unknown := [name for name in names if name not in self.schema.names]:
            raise InputError(
                expected=f"columns of the catalog: {', '.join(self.schema.names)}",
                got=", ".join(map(repr, unknown)),
                where="columns",
                fix="correct them",
            )
        return names

    def to_polars(self, columns: Sequence[str] | None = None, where: ds.Expression | str | None = None) -> pl.DataFrame:
        """Read rows into a polars DataFrame; see `to_batches`. Raises InputError where polars is not installed."""
        return polars_frame(self.to_arrow(columns, where))

    def to_pandas(self, columns: Sequence[str] | None = None, where: ds.Expression | str | None = None) -> pd.DataFrame:
        """Read rows into a pandas DataFrame; see `to_batches`."""
        return self.to_arrow(columns, where).to_pandas()

    def to_astropy(self, columns: Sequence[str] | None = None, where: ds.Expression | str | None = None) -> Table:
        """Read rows into an astropy Table with units, UCDs and descriptions; nulls are masked. See `to_batches`."""
        return astropy_table(self.to_arrow(columns, where))

    def to_dask(self, columns: Sequence[str] | None = None) -> DaskFrame:
        """Return a Dask dataframe with one partition for each file, which reads nothing yet."""
        import dask.dataframe as dd

        names = _list(columns) or self.schema.names
        empty = self.schema.empty_table().select(names).to_pandas()
        return dd.from_map(_read_pandas, list(self.locations), columns=names, meta=empty, enforce_metadata=False)

    def to_lsdb(self, **options: Any) -> LsdbCatalog:
        """Open the run with LSDB, and its index of ``object_id``; `options` go to ``lsdb.open_catalog``.

        Raises
        ------
        InputError
            The survey was no HATS catalog, so its catalog is none.
        """
        if self.record["layout"] != "hats":
            raise InputError(
                expected="a catalog made from a HATS survey",
                got="one made from a directory of Parquet files",
                where=str(self),
                fix="take to_dask(), or import the survey into HATS and classify that",
            )
        import lsdb

        storage = {} if self.run.is_local else dict(self.run.fs.storage_options)
        if hasattr(self.run.fs, "call_s3"):
            # Else `hats` takes every bucket for a public one.
            storage.setdefault("anon", False)
        return lsdb.open_catalog(str(self.run / COLLECTION), storage_options=storage, **options)

    def cone(self, ra: Any, dec: Any = None, radius: Any = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the objects within `radius` of a position, the nearest first.

        Parameters
        ----------
        ra, dec, radius : float, str or astropy Quantity
            Right ascension, declination, and radius up to 180: degrees, or texts such as ``"05:34:31.9"`` (hours of
            right ascension) and ``"30arcsec"``. Or a SkyCoord as `ra`, and no `dec`.
        columns : sequence of str, optional
            All by default; ``separation`` [arcsec] is added as the last.

        Raises
        ------
        InputError
            A number is outside its range.
        """
        tables = list(cone_tables(self.run, self.index, cone_of(ra, dec, radius), self._known(columns)))
        found = pa.concat_tables(tables) if tables else cone_schema(self.schema, self._known(columns)).empty_table()
        return found.sort_by("separation").replace_schema_metadata(self.schema.metadata)

    def get(self, object_id: int | str) -> dict[str, Any] | None:
        """Return the row of one object, or None. Raises InputError where `object_id` cannot be one of this catalog."""
        value = parse_object_id(object_id, self.schema.field("object_id").type)
        files = dict.fromkeys(group.file for group in self.index.with_object(value))
        if not files:
            return None
        runs = {self.run_id: [self.run / key for key in files]}
        with open_session(runs, self.run_id) as connection:
            found = connection.execute("SELECT * FROM catalog WHERE object_id = ?", [value])
            names = [column[0] for column in found.description]
            row = found.fetchone()
        return None if row is None else dict(zip(names, row, strict=True))

    def files_of(self, object_ids: Sequence[int | str]) -> dict[int | str, str]:
        """Return the keys of the files that hold some objects, by object_id; those that are not there are left out."""
        files = dict.fromkeys(group.file for value in object_ids for group in self.index.with_object(value))
        if not files:
            return {}
        start = len(str(self.run).rstrip("/")) + 1
        with open_duckdb() as connection:
            scan(connection, "rows", [self.run / key for key in files], filename=True)
            places = ", ".join("?" * len(object_ids))
            found = connection.execute(
                f"SELECT object_id, filename FROM rows WHERE object_id IN ({places})", list(object_ids)
            ).fetchall()
        return {object_id: filename[start:] for object_id, filename in found}

    @contextmanager
    def open_queries(self) -> Iterator[Callable[[str], Answer]]:
        """Yield a function that answers a SELECT of ours as a stream, over and over on the same open files."""
        with open_session({self.run_id: self.locations}, self.run_id) as connection:
            yield partial(run_select, connection)

    @contextmanager
    def open_query(
        self, sql: str, parameters: Parameters = None, limits: QueryLimits | None = None
    ) -> Iterator[Answer]:
        """Answer one SELECT as a stream: ``catalog`` is this run, ``catalog_at('run')`` any other.

        `parameters` are the values of its ``?`` or ``$name``, which no text of theirs can turn into SQL.

        Raises
        ------
        InputError
            It is not one SELECT, DuckDB cannot answer it, or it takes more than `limits`.
        """
        with open_process(limits) as process:
            # Only runs that the text names: each costs the reading of a footer.
            named = [run for run in published_runs(self.catalog) if run in sql and run != self.run_id]
            files = {run: CatalogReader(self.catalog, run).locations for run in (self.run_id, *named)}
            answer = process.ask(files, self.run_id, sql, parameters)
            yield replace(answer, schema=with_meanings(answer.schema, self.schema))

    def query(self, sql: str, parameters: Parameters = None, limits: QueryLimits | None = None) -> pa.Table:
        """Answer one SELECT as an Arrow table; see `open_query`."""
        with self.open_query(sql, parameters, limits) as answer:
            return answer.table()

    def validate(
        self,
        reference: str | os.PathLike[str],
        *,
        radius: float | None = None,
        columns: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> Validation:
        """Hold the run against a table of known stars: completeness and purity, with intervals.

        Parameters
        ----------
        reference : str or path
            Parquet, CSV, ECSV, FITS or VOTable, with labels, and identifiers or positions.
        radius : float, optional
            Arcseconds within which positions match; by default identifiers do.
        columns : sequence of str, optional
            Columns of the table that are called otherwise, such as ``class=OGLE_type``.
        labels : mapping, optional
            Classes that labels mean, before the run's own and those of all known catalogs.

        Raises
        ------
        InputError
            The table cannot be read or matched, or catalog and table have no star in common.
        """
        from varstar_batch.catalog.known_stars.validate import Matching, validate

        return validate(self, reference, Matching(radius=radius, columns=tuple(columns), labels=dict(labels or {})))

    def _damaged(self, what: str) -> InputError:
        return InputError(
            expected="a complete run",
            got=f"{what} is missing",
            where=str(self.run),
            fix=f"see `varstar verify {self.catalog}`; `varstar rollback` goes back to an earlier run",
        )


def open_catalog(url: str | os.PathLike[str], run: str | None = None) -> CatalogReader:
    """Open a published catalog for reading.

    Parameters
    ----------
    url : str or path
        The catalog's folder, local or any fsspec URL.
    run : str, optional
        An identifier, its unambiguous beginning, ``previous``, or the current run by default.

    Raises
    ------
    InputError
        There is no catalog, nothing was published, or there is no such run.
    """
    catalog = open_catalog_root(url)
    return CatalogReader(catalog, resolve_run(catalog, run))


def parse_object_id(value: int | str, kind: pa.DataType) -> int | str:
    """Return an identifier as the catalog's column `kind` has it. Raises InputError where it cannot be one."""
    if not pa.types.is_integer(kind):
        return str(value)
    try:
        return int(pa.scalar(int(value), kind).as_py())
    except (ValueError, OverflowError, pa.ArrowInvalid):
        raise InputError(
            expected=f"an object_id of type {kind}", got=repr(value), where="object_id", fix="give a whole number"
        ) from None


def _read_pandas(location: Location, columns: list[str]) -> pd.DataFrame:
    with location.open_input() as stream:
        return pq.read_table(stream, columns=columns).to_pandas()


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _list(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)
