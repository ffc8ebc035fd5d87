"""The gate between a complete run and the catalog's pointer: measures of the run, each against its limit.

A run that does not pass is held: whole on storage, not current, with the reasons. A person releases it by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from varstar_batch.archives.known_stars import KnownStars, read_known_stars
from varstar_batch.catalog.known_stars.validate import Validation, compare_known
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
    if (anchors := read_anchors(gate)) is not None:
        validation = compare_known(reader, anchors, radius=gate.anchor_radius, may_be_empty=True)
        reader.catalog.write_validation(reader.run_id, validation.summary)  # for the report
        checks.append(_anchored(validation, gate))
    return checks


def limits_of(config: RunConfig) -> dict[str, Any]:
    """Return what the gate's answer depends on besides the runs, JSON-ready."""
    return {**config.gate.model_dump(mode="json"), "replace_survey": config.replace_survey}


def read_anchors(gate: GateConfig) -> KnownStars | None:
    """Read the table of anchors, where there is one.

    Raises
    ------
    InputError
        It is not there, no table, has no labels, or nothing to match by.
    """
    if gate.anchors is None:
        return None
    known = read_known_stars(gate.anchors, what="table of anchors")
    lacks = known.object_id is None if gate.anchor_radius is None else not known.has_positions
    if lacks:
        what = "identifiers" if gate.anchor_radius is None else "positions"
        raise InputError(
            expected=f"{what} of the anchors",
            got="none",
            where=known.where,
            fix="set gate.anchor_radius to match positions, leave it out to match identifiers",
        )
    return known


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
    # On first use: a run is prepared, and chunks are classified, without DuckDB and its memory.
    from varstar_batch.catalog.run_files.checks import count_unfamiliar

    strange, classified = count_unfamiliar(reader.locations, gate.unfamiliar_score)
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


def _anchored(validation: Validation, gate: GateConfig) -> Check:
    """Return how many anchors are right, of those in the catalog with a label that means a class."""
    said = validation.summary
    right, total = said["right"]["count"], said["right"]["of"]
    accuracy, limit = right / max(1, total), gate.min_anchor_accuracy
    others = said["reference_stars"] - total
    left = f"; {others:,} others are not in the catalog, or their label means none of its classes" if others else ""
    return Check(
        limit_name="min_anchor_accuracy",
        value=accuracy,
        limit=limit,
        passed=accuracy >= limit,
        text=f"{right:,} of {total:,} anchors are classified right: {accuracy:.1%}, at least {limit:.1%} "
        f"(gate.min_anchor_accuracy){left}",
    )


def _of(count: int, total: int, what: str) -> str:
    return f"{count:,} of {total:,} objects {what}"
