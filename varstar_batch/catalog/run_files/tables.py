"""The small tables of a run: what became of every chunk and every partition, what failed, and what its rows mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

RECORDS_KEY = b"varstar.records"
"""Key of the Parquet metadata under which a catalog file carries the records of its chunks."""

ACCOUNT = "tasks.parquet"
"""File of a run that says what became of each partition. It is created exclusively: with it the run is closed, and all
else that a finished run has is made from it."""

RUN_RECORD = "run.json"

CLAIM = "claim.json"
"""File of a run's folder that is created exclusively: of two runs begun in the same second each gets its own."""

COUNTS = pa.map_(pa.string(), pa.int64())

PLAN_SCHEMA = pa.schema(
    [("partition", pa.string()), ("size", pa.int64()), ("version", pa.string()), ("fingerprint", pa.string())]
)

PARTITIONS_SCHEMA = pa.schema(
    [
        ("partition", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("status", COUNTS),
        ("classes", COUNTS),
    ]
)

FAILURES_SCHEMA = pa.schema([("partition", pa.string()), ("kind", pa.string()), ("message", pa.string())])

CLASS_DESCRIPTIONS = {
    "CEP": ("Cepheids", "Pulsating supergiants with periods of days to months: classical, type II and anomalous"),
    "DSCUT": ("delta Scuti stars", "Short-period pulsators of spectral type A to F, high-amplitude ones included"),
    "ECL": ("Eclipsing binaries", "Detached, semi-detached and contact binaries"),
    "M": ("Mira variables", "Long-period pulsating giants of large amplitude"),
    "RR": ("RR Lyrae stars", "Pulsating horizontal-branch stars, fundamental mode and overtone"),
    "SR": ("Semi-regular variables", "Giants and supergiants that pulsate with noticeable, disturbed periodicity"),
}
"""Name and description of the classes of the science; a bundle may bring others, which are described by their name."""


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of several counts, the largest first."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


def objects_line(record: Mapping[str, Any]) -> str:
    """Return how many objects of the survey are in a run, and what became of the others; `record` is its ``run.json``.

    Everybody who tells of a run says it with this line.
    """
    rows, failed = record["rows"], record["failed_partitions"]
    objects, kept = record.get("objects", rows), record.get("kept_rows", 0)
    about = "about " if record.get("objects_estimated") else ""
    line = f"{rows:,} of {about}{objects:,} objects in"
    if kept:
        line += f", {kept:,} of them carried over from the run before"
    return f"{line}; {failed:,} partition{'' if failed == 1 else 's'} failed" if failed else line


def speed_line(record: Mapping[str, Any]) -> str:
    """Return how fast a run classified; one that found all its partitions done, or carried over, says so instead."""
    rate = record["light_curves_per_second"]
    return f"{rate:,.{0 if rate >= 10 else 2}f} light curves/s" if rate else "nothing was left to classify"


def periods_line(record: Mapping[str, Any]) -> str:
    """Return what a run says of the periods, empty where all are right or nobody asked."""
    flags = dict(record.get("periods", {}))
    total, _, doubtful = sum(flags.values()), flags.pop("ok", 0), flags.pop("doubtful", 0)
    if not flags and not doubtful:
        return ""
    better = ", ".join(f"{name} {count:,}" for name, count in flags.items())
    used = "; classified by those" if record["configuration"].get("use_best_period") else ""
    told = f"{sum(flags.values()):,}" + (f" ({better}{used})" if better else "")
    return f"Periods of {total:,} objects questioned: others fit {told} better, {doubtful:,} are doubtful"


def definition_tables(record: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Return the tables ``run``, ``classifier`` and ``class`` of a run from its record (``run.json``)."""
    model = record["model"]
    classifier = f"{model['name']} {model['version']}"
    described = [CLASS_DESCRIPTIONS.get(name, (name, "")) for name in model["classes"]]
    run = {
        "run_id": record["run_id"],
        "classifier_name": classifier,
        "survey": record["survey"],
        "finished": record["finished"],
        "code_version": record["code_version"],
        "configuration": json.dumps(record["configuration"], sort_keys=True),
        "fingerprint": record["fingerprint"],
        "n_objects": record["rows"],
        "n_classified": record["status"].get("ok", 0),
        "n_failed_partitions": record["failed_partitions"],
    }
    definition = {
        "run_id": record["run_id"],
        "classifier_name": classifier,
        "classifier_description": f"{model['architecture']} on phase-folded light curves",
        "model_hash": model["hash"],
    }
    return {
        "run": pa.Table.from_pylist([run]),
        "classifier": pa.Table.from_pylist([definition]),
        "class": pa.table(
            {
                "run_id": [record["run_id"]] * len(described),
                "classifier_name": [classifier] * len(described),
                "class_name": list(model["classes"]),
                "class_title": [title for title, _ in described],
                "class_description": [text for _, text in described],
                "n_objects": [int(record["classes"].get(name, 0)) for name in model["classes"]],
            }
        ),
    }
