"""The gate between a complete run and the catalog's pointer: measures of the run, each against its limit.

A run that does not pass is held: whole on storage, not current, with the reasons. A person releases it by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.input_tables import list_files, read_whole
from varstar_batch.errors import InputError
from varstar_batch.runs.config import GateConfig, RunConfig

if TYPE_CHECKING:
    from varstar_batch.catalog.reader import CatalogReader


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measure of a run against its limit."""

    limit_name: str
    """Key of the limit in [gate]; empty for what no limit changes."""
    value: float
    limit: float
    passed: bool
    text: str
    """Number against limit, for people."""


@dataclass(frozen=True)
class Anchors:
    """Objects whose class is known for sure."""

    object_id: pa.Array
    class_: pa.Array
    """Texts."""


def audit(reader: CatalogReader, before: CatalogReader | None, config: RunConfig) -> list[Check]:
    """Measure a complete run, as it lies on storage, against the limits of its gate.

    Parameters
    ----------
    reader : CatalogReader
        The run, complete.
    before : CatalogReader or None
        The current run; None at the first publication.
    config : RunConfig
        With the limits. Where it says that the survey is another one, nothing is compared with the run before.

    Returns
    -------
    list of Check
        In the order of the configuration's keys.
    """
    gate, record = config.gate, reader.record
    compared = None if before is None or config.replace_survey else before
    checks = [*_of_itself(record, gate), _unfamiliar(reader, gate)]
    if compared is not None:
        checks += _against(reader, compared, gate)
    if gate.anchors is not None:
        checks.append(_anchored(reader, read_anchors(gate.anchors), gate))
    return checks


def limits_of(config: RunConfig) -> dict[str, Any]:
    """Return what the gate's answer depends on besides the runs, JSON-ready."""
    return {**config.gate.model_dump(mode="json"), "replace_survey": config.replace_survey}


def read_anchors(url: str) -> Anchors:
    """Read the table of anchors.

    Raises
    ------
    InputError
        It is not there, no table, or has not the columns object_id and class.
    """
    file = list_files(url, "table of anchors")[0]
    table = read_whole(file, ("object_id", "class"))
    names = {name.lower(): name for name in table.column_names}
    if missing := [name for name in ("object_id", "class") if name not in names]:
        raise InputError(
            expected="a table of anchors with the columns object_id and class",
            got=f"none called {' or '.join(missing)}, but {', '.join(table.column_names[:10])}",
            where=str(file),
            fix="rename its columns, or leave gate.anchors out",
        )
    labels = table[names["class"]].cast(pa.string())
    known = table.filter(pc.and_(pc.is_valid(labels), pc.is_valid(table[names["object_id"]])))
    return Anchors(known[names["object_id"]].combine_chunks(), known[names["class"]].cast(pa.string()).combine_chunks())


def _most(name: str, value: float, gate: GateConfig, what: str) -> Check:
    """Return the check that a share is not above its limit."""
    limit = float(getattr(gate, name))
    text = f"{what}: {value:.1%}, at most {limit:.1%} (gate.{name})"
    return Check(limit_name=name, value=value, limit=limit, passed=value <= limit, text=text)


def _of_itself(record: Mapping[str, Any], gate: GateConfig) -> Iterator[Check]:
    rows, classified = record["rows"], record["status"].get("ok", 0)
    yield Check(
        limit_name="",
        value=classified,
        limit=1,
        passed=classified > 0,
        text=f"{classified:,} of {rows:,} objects were classified, at least 1",
    )
    unclassified = rows - classified
    yield _most("max_unclassified", unclassified / max(1, rows), gate, _of(unclassified, rows, "were not classified"))
    failed, partitions = record["failed_partitions"], record["partitions"]
    yield _most("max_failed", failed / max(1, partitions), gate, f"{failed:,} of {partitions:,} partitions failed")


def _unfamiliar(reader: CatalogReader, gate: GateConfig) -> Check:
    counted = reader.query(
        f"SELECT count(*) FILTER (WHERE ood_score > {gate.unfamiliar_score!r}) AS strange, count(*) AS n "
        "FROM catalog WHERE status = 'ok'"
    )
    strange, classified = counted["strange"][0].as_py(), counted["n"][0].as_py()
    what = _of(strange, classified, f"have an ood_score above {gate.unfamiliar_score:g}")
    return _most("max_unfamiliar", strange / max(1, classified), gate, what)


def _against(reader: CatalogReader, before: CatalogReader, gate: GateConfig) -> list[Check]:
    """Return how the run differs from the current one."""
    record, earlier = reader.record, before.record
    gone, changed, both = _compare(reader, before)
    shares = [1 - each["status"].get("ok", 0) / max(1, each["rows"]) for each in (record, earlier)]
    grown = f"{shares[0]:.1%} of the objects were not classified, {shares[1]:.1%} in the current run"
    checks = [
        _most("max_gone", gone / max(1, len(before)), gate, _of(gone, len(before), "are gone from the survey")),
        _most("max_changed", changed / max(1, both), gate, _of(changed, both, "have another class than before")),
        _most("max_unclassified_growth", max(0.0, shares[0] - shares[1]), gate, grown),
    ]
    if record["survey"] != earlier["survey"]:
        told = f"; the survey is {record['survey']}, it was {earlier['survey']}: --replace-survey where that is meant"
        first = next((k for k, check in enumerate(checks) if not check.passed), None)
        if first is not None:
            checks[first] = replace(checks[first], text=checks[first].text + told)
    return checks


def _compare(reader: CatalogReader, before: CatalogReader) -> tuple[int, int, int]:
    """Return the objects that are gone, those with another class, and those that are classified in both runs.

    Where files of the current run are lost or damaged, which is a reason to publish the next one, the counts in its
    records tell how many there must be at the least.
    """
    # On first use: a run is prepared, and chunks are classified, without DuckDB and its memory.
    from varstar_batch.catalog.compare import open_comparison

    try:
        if reader.schema.field("object_id").type != before.schema.field("object_id").type:
            return len(before), 0, 0
        with open_comparison(before, reader) as comparison:
            difference = comparison.summary()
    except InputError:
        then, now = before.record["classes"], reader.record["classes"]
        changed = sum(max(0, count - now.get(name, 0)) for name, count in then.items())
        return max(0, len(before) - len(reader)), changed, sum(then.values())
    classes = {*reader.classes, *before.classes}
    pairs = {(a, b): n for (a, b), n in difference.matrix.items() if a in classes and b in classes}
    changed = sum(n for (a, b), n in pairs.items() if a != b)
    return difference.causes.get("gone_from_survey", 0), changed, sum(pairs.values())


def _anchored(reader: CatalogReader, anchors: Anchors, gate: GateConfig) -> Check:
    """Return how many anchors are right; those that the catalog or the model's classes do not have do not count."""
    kind = reader.schema.field("object_id").type
    try:
        ids = anchors.object_id.cast(kind)
    except pa.ArrowInvalid as error:
        raise InputError(
            expected=f"anchors whose object_id is {kind}, as in the catalog",
            got=str(error),
            where=str(gate.anchors),
            fix="give identifiers of this survey",
        ) from None
    labels = dict(zip(ids.to_pylist(), anchors.class_.to_pylist(), strict=True))
    rows = reader.to_arrow(["object_id", "class"], pc.field("object_id").isin(ids))
    found = dict(zip(rows["object_id"].to_pylist(), rows["class"].to_pylist(), strict=True))
    pairs = [(labels[name], class_) for name, class_ in found.items() if labels[name] in reader.classes]
    right = sum(label == class_ for label, class_ in pairs)
    accuracy, limit = right / max(1, len(pairs)), gate.min_anchor_accuracy
    left = f"; {len(labels) - len(pairs):,} others are not in the catalog, or of another class than its"
    return Check(
        limit_name="min_anchor_accuracy",
        value=accuracy,
        limit=limit,
        passed=accuracy >= limit,
        text=f"{right:,} of {len(pairs):,} anchors are classified right: {accuracy:.1%}, at least {limit:.1%} "
        f"(gate.min_anchor_accuracy){left if len(labels) > len(pairs) else ''}",
    )


def _of(count: int, total: int, what: str) -> str:
    return f"{count:,} of {total:,} objects {what}"
