"""Small catalogs for tests, made by hand: rows through the project's schema, published through its own functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.schema import catalog_schema, sort_rows, write_options
from varstar_batch.catalog.run_files.finish import finish_run_files
from varstar_batch.catalog.run_files.root import Catalog, make_catalog_root, output_key
from varstar_batch.catalog.run_files.tables import FAILURES_SCHEMA, PARTITIONS_SCHEMA, PLAN_SCHEMA, add_counts
from varstar_batch.files.location import write_json
from varstar_batch.files.parquet import write_table
from varstar_batch.light_curves.classes import CLASSES, PARENTS
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.bundle_files import WRITTEN
from varstar_batch.runs.records import TASKS_SCHEMA
from varstar_batch.sky import HEALPIX_COLUMN
from varstar_batch.survey.open import Columns, Partition, Source, Survey

HATS_PROPERTIES = {
    "obs_collection": "toy",
    "dataproduct_type": "object",
    "hats_nrows": "1",
    "hats_col_ra": "ra",
    "hats_col_dec": "dec",
    "hats_col_healpix": HEALPIX_COLUMN,
    "hats_col_healpix_order": "29",
    "hats_npix_suffix": ".parquet",
}


def run_name(number: int) -> str:
    return f"20260101T{number:06d}Z-{number:08x}"


def sky_rows(count: int, seed: int = 1, *, first_id: int = 10_000, id_type: pa.DataType | None = None) -> pa.Table:
    """Random objects over the whole sky with plausible probabilities; every tenth was not classified."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(len(CLASSES), 0.3), count).astype(np.float32)
    ranked = np.argsort(-probabilities, axis=1)
    top = np.take_along_axis(probabilities, ranked, axis=1)
    failed = np.arange(count) % 10 == 9
    names = np.array(CLASSES)
    parents = np.array([PARENTS.get(name, name) for name in CLASSES])

    def null(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=failed)

    columns: dict[str, Any] = {
        "object_id": pa.array(np.uint64(first_id) + rng.permutation(count).astype(np.uint64)).cast(
            id_type or pa.int64()
        ),
        "ra": rng.uniform(0, 360, count),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, count))),
        "period": pa.array(10 ** rng.uniform(-1, 2.5, count), mask=failed),
        "period_origin": pa.array(
            np.where(failed, None, np.where(np.arange(count) % 3, "survey", "found")), pa.string()
        ),
        "n_obs": rng.integers(60, 400, count).astype(np.int32),
        "n_obs_by_band": pa.array(np.where(np.arange(count) % 2, "g:52, r:8", None), pa.string()),
        "n_used": rng.integers(50, 60, count).astype(np.int32),
        "amplitude": null(rng.gamma(2.0, 0.2, count).astype(np.float32)),
        "status": pa.array(np.where(failed, "no_period", "ok")),
        "class": null(names[ranked[:, 0]]),
        "label": pa.array([("EW", "RRAB:", "ROT", None, "odd")[k % 5] for k in range(count)], pa.string()),
        "label_class": pa.array([("ECL", "RR", None, None, None)[k % 5] for k in range(count)], pa.string()),
        "second_class": null(names[ranked[:, 1]]),
        "class_prob": null(top[:, 0]),
        "margin": null(top[:, 0] - top[:, 1]),
        "entropy": null(-(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(axis=1).astype(np.float32)),
        "ood_score": null(rng.random(count, dtype=np.float32)),
        "period_flag": null(np.array(["ok", "ok", "2P", "doubtful"])[np.arange(count) % 4]),
        "best_period": pa.array(np.where(np.arange(count) % 4 == 3, np.nan, 0.5), from_pandas=True),
        "best_class": null(names[ranked[:, 0]]),
        "parent": null(parents[ranked[:, 0]]),
        "parent_prob": null(top[:, 0]),
        "subclass": pa.nulls(count, pa.string()),
        "subclass_prob": pa.nulls(count, pa.float32()),
        "parents_95": null(parents[ranked[:, 0]]),
        "parents_99": null(parents[ranked[:, 0]]),
    }
    columns |= {f"prob_{name}": null(probabilities[:, k]) for k, name in enumerate(CLASSES)}
    return pa.table(columns)


def in_pixels(rows: pa.Table, order: int = 1) -> dict[str, pa.Table]:
    """Cut rows into the pixels of a HATS catalog."""
    from hats.pixel_math.healpix_shim import radec2pix

    cells = radec2pix(29, rows["ra"].to_numpy(), rows["dec"].to_numpy()).astype(np.int64)
    rows = rows.append_column(HEALPIX_COLUMN, pa.array(cells))
    pixels = cells >> (2 * (29 - order))
    return {
        f"dataset/Norder={order}/Dir=0/Npix={pixel}.parquet": rows.filter(pa.array(pixels == pixel))
        for pixel in np.unique(pixels)
    }


def in_slices(rows: pa.Table, count: int = 4) -> dict[str, pa.Table]:
    """Cut rows into the files of a plain survey."""
    size = -(-rows.num_rows // count)
    return {f"part-{k:05d}.parquet": rows.slice(k * size, size) for k in range(count)}


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What a run is about; partitions map a survey's key to its rows without model_version and run_id."""

    partitions: Mapping[str, pa.Table]
    layout: str = "directory"
    versions: Mapping[str, str] = field(default_factory=dict)
    model_version: str = "1"
    configuration: Mapping[str, Any] = field(default_factory=lambda: {"engine": "auto", "precision": "float32"})
    code_version: str = "0.1"
    survey: str = "/surveys/toy"
    failures: tuple[tuple[str, str, str], ...] = ()
    row_group_rows: int = 256


def write_run(root: Path | str, run_id: str, spec: RunSpec, *, publish: bool = True) -> Catalog:
    """Write a complete run into a catalog, new or there already, and publish it."""
    catalog = make_catalog_root(root)
    run = catalog.run(run_id)
    records = [_write_partition(catalog, run_id, spec, key) for key in sorted(spec.partitions)]
    plan = [
        {"partition": key, "size": 1000, "version": spec.versions.get(key, "1"), "fingerprint": key}
        for key in sorted(spec.partitions)
    ]
    record = run_record(run_id, spec, records)
    for key in ("claim.json", *(f"model/{name}" for name in WRITTEN)):
        (run / key).write_bytes(f"in place of {key}\n".encode())
    write_table(run / "plan.parquet", plan, PLAN_SCHEMA)
    write_json(run / "plan.json", {**record, "started": "2026-01-01T00:00:00+00:00", "based_on": 0})
    write_table(run / "partitions.parquet", records, PARTITIONS_SCHEMA)
    failures = [dict(zip(FAILURES_SCHEMA.names, row, strict=True)) for row in spec.failures]
    write_table(run / "failures.parquet", failures, FAILURES_SCHEMA)
    write_table(run / "tasks.parquet", [_task(entry) for entry in records], TASKS_SCHEMA)
    write_json(run / "run.json", record)
    finish_run_files(run, survey_of(spec), record)
    if publish:
        catalog.publish(run_id, based_on=catalog.current().number)
    return catalog


def survey_of(spec: RunSpec) -> Survey:
    columns = Columns(
        object_id="object_id",
        period="period",
        ra="ra",
        dec="dec",
        class_=None,
        healpix=HEALPIX_COLUMN if spec.layout == "hats" else None,
        lightcurve="lightcurve",
        time="time",
        mag="mag",
        mag_err="mag_err",
    )
    source = Source(
        url=spec.survey,
        layout="hats" if spec.layout == "hats" else "directory",
        form="nested",
        columns=columns,
        object_id_type="int64",
        time_system="HJD",
        limits=Limits(),
    )
    partitions = tuple(Partition(key, 1000, spec.versions.get(key, "1")) for key in sorted(spec.partitions))
    return Survey(
        source=source, partitions=partitions, hats_properties=HATS_PROPERTIES if spec.layout == "hats" else None
    )


def run_record(run_id: str, spec: RunSpec, records: list[dict[str, Any]]) -> dict[str, Any]:
    model = {
        "name": "toy",
        "version": spec.model_version,
        "hash": hashlib.sha256(spec.model_version.encode()).hexdigest(),
        "architecture": "paper",
        "classes": list(CLASSES),
    }
    rows = sum(entry["rows"] for entry in records)
    return {
        "run_id": run_id,
        "survey": spec.survey,
        "configuration": dict(spec.configuration),
        "model": model,
        "code_version": spec.code_version,
        "layout": spec.layout,
        "time_system": "HJD",
        "partitions": len(spec.partitions) + len(spec.failures),
        "bytes": 1000 * len(records),
        "fingerprint": hashlib.sha256(run_id.encode()).hexdigest(),
        "finished": "2026-01-01T00:01:00+00:00",
        "rows": rows,
        "observations": rows * 200,
        "failed_partitions": len(spec.failures),
        "resumed_partitions": 0,
        "status": add_counts(entry["status"] for entry in records),
        "classes": add_counts(entry["classes"] for entry in records),
        "periods": add_counts(entry["periods"] for entry in records),
        "dropped": {"mag_sentinel": 12},
        "labels": {},
        "labels_left_out": {},
        "seconds": 2.5,
        "light_curves_per_second": rows / 2.5,
        "worker_seconds": {"read": 1.0, "fold": 0.5, "classify": 3.0, "write": 0.4},
        "peak_memory": 2**28,
        "bytes_out": sum(entry["bytes"] for entry in records),
    }


def _write_partition(catalog: Catalog, run_id: str, spec: RunSpec, key: str) -> dict[str, Any]:
    rows = spec.partitions[key]
    healpix = HEALPIX_COLUMN in rows.column_names
    schema = catalog_schema(rows.schema.field("object_id").type, CLASSES, healpix=healpix)
    rows = rows.append_column("model_version", pa.repeat(spec.model_version, rows.num_rows))
    rows = rows.append_column("carried", pa.repeat(False, rows.num_rows))
    rows = sort_rows(rows.append_column("run_id", pa.repeat(run_id, rows.num_rows)).select(schema.names).cast(schema))
    location = catalog.run(run_id) / output_key(spec.layout, key)
    with location.atomic_output() as sink:
        pq.write_table(rows, sink, row_group_size=spec.row_group_rows, **write_options(spec.row_group_rows))
    content = location.read_bytes()

    def counts(name: str) -> dict[str, int]:
        found = rows[name].drop_null().value_counts().to_pylist()
        return {entry["values"]: entry["counts"] for entry in found}

    return {
        "partition": key,
        "rows": rows.num_rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "status": counts("status"),
        "classes": counts("class"),
        "periods": counts("period_flag"),
    }


def _task(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partition": entry["partition"],
        "chunk": 0,
        "chunks": 1,
        "rows": entry["rows"],
        "observations": entry["rows"] * 200,
        "bytes_in": 1000,
        "bytes_out": entry["bytes"],
        "status": entry["status"],
        "classes": entry["classes"],
        "periods": entry["periods"],
        "dropped": {},
        "labels": {},
        "left_out": {},
        "seconds": {"read": 0.1, "fold": 0.2, "classify": 0.5, "write": 0.1},
        "started": 1.7e9,
        "sha256": entry["sha256"],
        "worker": "here:1",
        "peak_memory": 2**28,
    }
