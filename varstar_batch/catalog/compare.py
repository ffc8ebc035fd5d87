"""Two runs of a catalog side by side: which objects changed, from what to what, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.catalog.sql.session import BATCH_ROWS, open_duckdb, quoted, scan
from varstar_batch.errors import InputError, differences, one_line
from varstar_batch.files.parquet import read_table

MOVED = 0.1
"""By how much a probability has to differ between two runs to be told of where the class is the same."""

KINDS = ("class", "status", "appeared", "vanished", "moved")
"""What can have happened to an object: another class, another status, it is in one of the runs only, or a probability
moved by more than `MOVED` and the class is the same."""

FAMILY = ("parent", "subclass")
"""Columns that runs of earlier versions do not have."""

RUN_CAUSES = {
    "new_model": ("model",),
    "new_configuration": ("configuration",),
    "new_code": ("code_version", "code"),
}
"""Causes that hold for a run as a whole, and the keys of its record that tell."""

# Of the objects that changed; where several causes hold they are joined with "+", since nothing tells them apart.
_OBJECT_CAUSES = {
    "new_observations": "a_n_obs IS DISTINCT FROM b_n_obs",
    "new_period": "a_period IS DISTINCT FROM b_period",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed from run A to run B."""

    run_a: str
    run_b: str
    rows_a: int
    rows_b: int
    """Objects in each."""
    changed: dict[str, int]
    """Objects by what happened to them, as `KINDS` has it."""
    causes: dict[str, int]
    """The same objects by cause. Several causes of one object are joined with ``+``."""
    families: dict[str, int] = field(default_factory=dict)
    """Of the objects that both runs classified, those whose ``parent`` and whose ``subclass`` changed; without objects
    of which one run has none."""
    matrix: dict[tuple[str, str], int]
    """Dict of (str, str) to int. Objects of both runs by class (or by status, where they have no class) in A and in B.
    """
    settings: list[str]
    """One line for each setting of the run in which the two differ."""
    carried: int
    """Objects in partitions that are the same file in both, and so were not compared one by one."""


@dataclass(frozen=True)
class Comparison:
    """Two runs being compared; made by `open_comparison`."""

    connection: duckdb.DuckDBPyConnection
    """With the view ``pairs``."""
    a: CatalogReader
    b: CatalogReader
    carried: list[dict[str, Any]]
    """Entries of ``partitions.parquet`` that stand for the same file in both runs."""

    def summary(self) -> Difference:
        """Count what changed, in one pass over both runs."""
        other = ", ".join(f"count(*) FILTER (WHERE a_{name} <> b_{name})" for name in FAMILY)
        counted = self.connection.execute(
            f"SELECT kind, cause, label_a, label_b, count(*), {other} FROM pairs GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        changed: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        causes: Counter[str] = Counter()
        matrix: Counter[tuple[str, str]] = Counter()
        families = dict.fromkeys(FAMILY, 0)
        for kind, cause, label_a, label_b, count, *others in counted:
            families = {name: n + more for (name, n), more in zip(families.items(), others, strict=True)}
            if kind is not None:
                changed[kind] += count
                causes[cause] += count
            if label_a is not None and label_b is not None:
                matrix[label_a, label_b] += count
        for entry in self.carried:
            # The status of a classified object is ok, and its label is its class.
            statuses = {name: count for name, count in entry["status"] if name != "ok"}
            for label, count in {**dict(entry["classes"]), **statuses}.items():
                matrix[label, label] += count
        return Difference(
            run_a=self.a.run_id,
            run_b=self.b.run_id,
            rows_a=len(self.a),
            rows_b=len(self.b),
            changed=dict(changed),
            causes=dict(causes.most_common()),
            families=families,
            matrix=dict(matrix),
            settings=settings_difference(self.a.record, self.b.record),
            carried=sum(entry["rows"] for entry in self.carried),
        )

    def changes(self, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the objects that changed, with their old and new values (``_a``, ``_b``), in bounded batches.

        Parameters
        ----------
        limit : int, optional
            Only so many, those first of which both runs were surest; all of them, in no order, by default.
        """
        order = (
            "" if limit is None else f"ORDER BY least(a_class_prob, b_class_prob) DESC, object_id LIMIT {int(limit)}"
        )
        yield from self.connection.sql(f"{self._changes} {order}").to_arrow_reader(BATCH_ROWS)

    @property
    def schema(self) -> pa.Schema:
        """Of the batches of `changes`."""
        return self.connection.sql(f"{self._changes} LIMIT 0").to_arrow_reader(BATCH_ROWS).schema

    @property
    def _changes(self) -> str:
        shared = (f"prob_{name}" for name in self.a.classes if name in self.b.classes)
        numbers = ["class_prob", "period", "n_obs", *FAMILY, *shared]
        columns = ", ".join(f"a_{name} AS {name}_a, b_{name} AS {name}_b" for name in numbers)
        return f"SELECT object_id, kind, label_a, label_b, cause, {columns} FROM pairs WHERE kind IS NOT NULL"


@contextmanager
def open_comparison(a: CatalogReader, b: CatalogReader) -> Iterator[Comparison]:
    """Compare two runs of a catalog; memory is bounded, beyond it DuckDB spills to disk.

    Raises
    ------
    InputError
        It is the same run twice, the two name their objects in different types, or files of one are lost or damaged.
    """
    if a.run_id == b.run_id:
        raise InputError(
            expected="two different runs",
            got=f"{a.run_id} twice",
            where="diff",
            fix="`varstar runs CATALOG` lists them",
        )
    kinds = [reader.schema.field("object_id").type for reader in (a, b)]
    if kinds[0] != kinds[1]:
        raise InputError(
            expected=f"object_id of type {kinds[0]}, as in {a.run_id}",
            got=str(kinds[1]),
            where=b.run_id,
            fix="these runs are of different surveys",
        )
    carried = _carried(a, b)
    same = {entry["partition"] for entry in carried}
    with open_duckdb() as connection:
        try:
            for name, reader, other in (("a", a, b), ("b", b, a)):
                _side(connection, name, reader, other, same)
            connection.execute(f"CREATE VIEW pairs AS {_pairs(a, b)}")
            yield Comparison(connection, a, b, carried)
        except duckdb.Error as error:
            raise InputError(
                expected=f"the files of the runs {a.run_id} and {b.run_id}",
                got=one_line(error),
                where=str(a.catalog),
                fix="`varstar verify CATALOG --run RUN` says what is damaged",
            ) from None


def settings_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting in which two runs' records differ: survey, model, configuration, code."""
    return [
        f"{key}: {old} -> {new}"
        for name in ("survey", "model", "configuration", "code_version", "code")
        for key, old, new in differences({name: a.get(name)}, {name: b.get(name)})
    ]


def _carried(a: CatalogReader, b: CatalogReader) -> list[dict[str, Any]]:
    """Return the partitions whose files are the same in both runs: nothing in them can have changed."""
    before, after = (read_table(reader.run / "partitions.parquet").to_pylist() for reader in (a, b))
    hashes = {entry["partition"]: entry["sha256"] for entry in before}
    return [entry for entry in after if hashes.get(entry["partition"]) == entry["sha256"]]


def _side(
    connection: duckdb.DuckDBPyConnection, name: str, reader: CatalogReader, other: CatalogReader, same: set[str]
) -> None:
    """Make the view `name`: the rows of a run outside of carried partitions, each with what is known of its partition.

    ``version`` is that of the survey's file; ``elsewhere`` says that the other run failed on this partition.
    """
    plan = read_table(reader.run / "plan.parquet")
    failed = set(read_table(other.run / "failures.parquet")["partition"].to_pylist())
    rows = [entry for entry in plan.to_pylist() if entry["partition"] not in same]
    keys = [output_key(reader.record["layout"], row["partition"]) for row in rows]
    table = pa.table(
        {
            "file": pa.array([str(reader.run / key) for key in keys], pa.string()),
            "version": pa.array([f"{row['size']}:{row['version']}" for row in rows], pa.string()),
            "elsewhere": pa.array([row["partition"] in failed for row in rows], pa.bool_()),
        }
    )
    known = set(reader.files)
    files = [reader.run / key for key in keys if key in known]
    connection.register(f"plan_{name}", table)
    if files:
        scan(connection, f"rows_{name}", files, filename=True)
    else:
        scan(connection, f"all_{name}", list(reader.locations), filename=True)
        connection.execute(f"CREATE VIEW rows_{name} AS FROM all_{name} LIMIT 0")
    compared = ["object_id", "status", "class", "period", "n_obs", "class_prob", *(f"prob_{c}" for c in reader.classes)]
    columns = ", ".join(f'r."{column}" AS {name}_{column}' for column in compared)
    there = set(reader.schema.names)
    for column in FAMILY:
        value = f'r."{column}"' if column in there else "NULL"
        columns += f", {value}::VARCHAR AS {name}_{column}"
    connection.execute(
        f"""CREATE VIEW {name} AS SELECT {columns}, p.version AS {name}_version, p.elsewhere AS {name}_elsewhere,
        CASE WHEN r.status = 'ok' THEN r."class" ELSE r.status END AS {name}_label
        FROM rows_{name} r JOIN plan_{name} p ON r.filename = p.file"""
    )


def _pairs(a: CatalogReader, b: CatalogReader) -> str:
    run_causes = [
        cause for cause, keys in RUN_CAUSES.items() if any(_setting(a, key) != _setting(b, key) for key in keys)
    ]
    listed = [f"CASE WHEN {condition} THEN '{cause}' END" for cause, condition in _OBJECT_CAUSES.items()]
    listed += [quoted(cause) for cause in run_causes]
    # What is left: the survey's file was written again with as many observations, or nothing that is recorded changed.
    rest = "CASE WHEN a_version IS DISTINCT FROM b_version THEN 'revised_observations' ELSE 'unexplained' END"
    cause = f"coalesce(nullif(concat_ws('+', {', '.join(listed)}), ''), {rest})"
    shared = [name for name in a.classes if name in b.classes]
    moved = " OR ".join(f'abs("a_prob_{name}" - "b_prob_{name}") > {MOVED}' for name in shared) or "false"
    moved = f"({moved})"
    return f"""
        SELECT *, coalesce(a_object_id, b_object_id) AS object_id, a_label AS label_a, b_label AS label_b,
        CASE WHEN a_object_id IS NULL THEN 'appeared' WHEN b_object_id IS NULL THEN 'vanished'
             WHEN a_status <> b_status THEN 'status' WHEN a_class <> b_class THEN 'class'
             WHEN {moved} THEN 'moved' END AS kind,
        CASE WHEN a_object_id IS NULL THEN if(b_elsewhere, 'partition_failed_before', 'new_in_survey')
             WHEN b_object_id IS NULL THEN if(a_elsewhere, 'partition_failed_now', 'gone_from_survey')
             WHEN a_label <> b_label OR {moved} THEN {cause} END AS cause
        FROM a FULL JOIN b ON a_object_id = b_object_id"""


def _setting(reader: CatalogReader, key: str) -> Any:
    value = reader.record.get(key)
    return value["hash"] if key == "model" and value else value
