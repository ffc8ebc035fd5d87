"""Giving a plan its place on storage: a new run, one that was cut off, or one that follows the published run.

What is finished is read from storage: a run that was cut off is found by its fingerprint and goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from varstar_batch.catalog.run_files.identity import changed_files, with_known_versions
from varstar_batch.catalog.run_files.root import (
    Catalog,
    Pointer,
    check_catalog_root,
    make_catalog_root,
    new_run_id,
    output_key,
)
from varstar_batch.catalog.run_files.tables import ACCOUNT, CLAIM, PLAN_SCHEMA
from varstar_batch.errors import PartitionError, RefusedError
from varstar_batch.files.location import Location, writable, write_json
from varstar_batch.files.parquet import read_table, write_table
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle, write_bundle
from varstar_batch.model.engines.open import fastest_precision
from varstar_batch.runs.chunks import RunContext, this_worker
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import steadfast
from varstar_batch.runs.gate import limits_of, read_anchors
from varstar_batch.runs.plan import RunPlan, difference, make_plan
from varstar_batch.survey.open import Partition, Survey, open_survey
from varstar_batch.survey.read import PartitionShape, check_bands, partition_shape
from varstar_batch.survey.units import told_conversions

FOOTERS = 1_000
"""Read at the most to tell a run's size beforehand."""

KEPT = "kept.json"
"""In the work folder of a run, once rows of the run before stand in the places of partitions that failed."""

RELEASE = (
    "look at it (varstar report {catalog} --run {run_id}); mend the cause, or release it with: "
    "varstar publish {catalog} {run_id} --because TEXT"
)
"""What to do with a held run."""


class HeldError(RefusedError):
    """A run is complete but is not published: its gate was not passed."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is planned and has its place on storage."""

    plan: RunPlan
    catalog: Catalog
    run_id: str
    context: RunContext
    """What every chunk needs."""
    done: frozenset[str]
    """Partitions that are on storage already."""
    based_on: Pointer
    """Where the catalog's pointer stood."""
    carried: Mapping[str, str] = field(default_factory=dict)
    """Partitions that are taken over from the run that this one follows: SHA-256 by key."""
    up_to_date: bool = False
    """The published run has the same fingerprint and no failure: there is nothing to do."""

    def heading(self) -> str:
        """Return a line about what the run is and how much of it is done already."""
        resumed = f", {len(self.done):,} of them done before" if self.done else ""
        resumed += f", {len(self.carried):,} taken over unchanged" if self.carried else ""
        model = self.plan.model
        count = len(self.plan.survey.partitions)
        source = self.plan.survey.source
        changes = ", ".join(f"{role} from {one}" for role, one in told_conversions(source.conversions).items())
        resumed += f"; converted: {changes}" if changes else ""
        return f"Run {self.run_id}: {count:,} partitions{resumed}; model {model['name']} {model['version']}"

    def published_record(self) -> dict[str, Any]:
        """Return the record of the run where it is the published one already."""
        record = self.catalog.read_json(self.run_id, "run.json")
        if record is None:
            raise RefusedError(
                expected="a published run with its run.json",
                got="none",
                where=str(self.context.run),
                fix="look at `varstar verify`, or classify again with --fresh",
            )
        return record


@steadfast
def plan_run(survey_url: str, model_url: str | None, config: RunConfig) -> tuple[RunPlan, Bundle]:
    """Return the plan of a run and its bundle; nothing is written.

    Raises
    ------
    InputError, RefusedError
        The survey, the bundle or the configuration does not fit.
    """
    bundle = read_bundle(model_url)
    if config.precision == "auto":
        # Once for the whole run, whoever works for it, and by name in its record.
        config = config.model_copy(update={"precision": fastest_precision(bundle)})
    read_anchors(config.gate)
    survey = open_survey(survey_url, config.survey)
    check_bands(survey)
    return make_plan(survey, bundle, config), bundle


def sample_footers(survey: Survey) -> list[tuple[Partition, PartitionShape]]:
    """Return what the footers of a survey's partitions tell; of many partitions, an even sample.

    Partitions that cannot be read are left out: the run itself will say what is wrong with them.
    """
    sample = survey.partitions[:: max(1, len(survey.partitions) // FOOTERS)]

    def look(partition: Partition) -> PartitionShape | None:
        try:
            return partition_shape(survey.source, partition)
        except (PartitionError, OSError):
            return None

    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(look, sample))
    return [(partition, shape) for partition, shape in zip(sample, shapes, strict=True) if shape is not None]


def expected_objects(survey: Survey) -> int | None:
    """Return about how many objects a survey has: counted from footers, and from a sample of them where there are many.

    Returns
    -------
    int or None
        None where footers do not tell (the long form), or none of them can be read.
    """
    known = [(partition.size, shape.rows) for partition, shape in sample_footers(survey) if shape.rows is not None]
    if not known:
        return None
    counted = sum(rows for _, rows in known)
    if len(known) == len(survey.partitions):
        return counted
    per_byte = counted / max(1, sum(size for size, _ in known))
    return round(per_byte * sum(partition.size for partition in survey.partitions))


@steadfast
def find_published(plan: RunPlan, bundle: Bundle, catalog_url: str) -> Prepared | None:
    """Return the published run where it has the same fingerprint and no failure: there is nothing to do.

    Raises
    ------
    InputError
        The place holds something else.
    """
    catalog = check_catalog_root(catalog_url)
    return _find_published(_settled(plan, catalog), bundle, catalog)


@steadfast
def prepare(
    plan: RunPlan, bundle: Bundle, catalog_url: str, *, fresh: bool = False, incremental: bool = False
) -> Prepared:
    """Give a plan its place in a catalog: a new run, or the one that was cut off.

    Parameters
    ----------
    plan : RunPlan
    bundle : Bundle
    catalog_url : str
    fresh : bool
        Begin a new run even where one could be resumed or is published already.
    incremental : bool
        A new run takes over the partitions of the published one whose part of the fingerprint is the same. A run that
        is resumed goes on as it was begun.

    Raises
    ------
    InputError
        The place holds something else or cannot be written.
    RefusedError
        A run of another fingerprint was cut off here, and `fresh` was not given.
    HeldError
        The same run is complete, but it is held, by the same limits.
    """
    catalog = check_catalog_root(catalog_url)
    based_on = catalog.current()
    plan = _settled(plan, catalog)
    published = None if fresh else _find_published(plan, bundle, catalog)
    if published is not None:
        return published
    run_id = None if fresh else _find_unfinished(catalog, plan)
    follows = based_on.run_id if incremental else ""
    if run_id is not None and (catalog.work(run_id) / KEPT).is_file() and not (catalog.run(run_id) / ACCOUNT).is_file():
        # Rows of failed partitions stand in their places, where nothing is written again: a new run tries those.
        follows, run_id = run_id, None
    if run_id is None:
        make_catalog_root(catalog_url)
        run_id = writable(str(catalog), "run", lambda: _begin(plan, bundle, catalog, based_on, follows))
    return _prepared(plan, bundle, catalog, run_id, based_on)


def _settled(plan: RunPlan, catalog: Catalog) -> RunPlan:
    """Return a plan in which files with the same bytes as in the newest runs are the same files."""
    survey = plan.survey
    for run_id in dict.fromkeys([*catalog.run_ids()[-1:], catalog.current().run_id]):
        if run_id:
            survey = with_known_versions(survey, catalog.run(run_id))
    return replace(plan, survey=survey)


def _prepared(
    plan: RunPlan, bundle: Bundle, catalog: Catalog, run_id: str, based_on: Pointer, *, up_to_date: bool = False
) -> Prepared:
    run = catalog.run(run_id)
    done = _there(plan, run)
    follows = (catalog.read_json(run_id, "plan.json") or {}).get("carried_from", "")
    carried = {} if up_to_date else _carried(plan, catalog, follows)
    context = RunContext(
        source=plan.survey.source,
        run=run,
        work=catalog.work(run_id),
        run_id=run_id,
        bundle_hash=bundle.hash,
        config=plan.config,
        carried_from=catalog.run(follows) if carried else None,
    )
    return Prepared(
        plan=plan,
        catalog=catalog,
        run_id=run_id,
        context=context,
        done=done,
        based_on=based_on,
        carried={key: sha256 for key, sha256 in carried.items() if key not in done},
        up_to_date=up_to_date,
    )


def _there(plan: RunPlan, run: Location) -> frozenset[str]:
    """Return the partitions whose catalog files are on storage."""
    # Whatever their names end in: a HATS survey may say so in its `npix_suffix`.
    there = {f"dataset/{info.key}" for info in (run / "dataset").files()}
    layout = plan.survey.source.layout
    return frozenset(p.key for p in plan.survey.partitions if output_key(layout, p.key) in there)


def _carried(plan: RunPlan, catalog: Catalog, follows: str) -> dict[str, str]:
    """Return the partitions whose part of the fingerprint is that of the run `follows`: SHA-256 by key."""
    if not follows:
        return {}
    run = catalog.run(follows)
    try:
        planned = read_table(run / "plan.parquet")
        if (run / ACCOUNT).is_file():
            finished = read_table(run / "partitions.parquet")
            failed = set(read_table(run / "failures.parquet")["partition"].to_pylist())
            hashes = dict(zip(finished["partition"].to_pylist(), finished["sha256"].to_pylist(), strict=True))
            hashes = {key: sha256 for key, sha256 in hashes.items() if key not in failed}
        else:  # cut off: what is there is whole, and no hash of it was recorded
            hashes = dict.fromkeys(_there(plan, run), "")
    except FileNotFoundError:
        return {}  # pruned since: everything is classified
    fingerprints = dict(zip(planned["partition"].to_pylist(), planned["fingerprint"].to_pylist(), strict=True))
    return {
        partition.key: hashes[partition.key]
        for partition in plan.survey.partitions
        if partition.key in hashes and fingerprints.get(partition.key) == plan.partition_fingerprint(partition)
    }


def _begin(plan: RunPlan, bundle: Bundle, catalog: Catalog, based_on: Pointer, follows: str) -> str:
    run_id = _claim(catalog, plan)
    run = catalog.run(run_id)
    write_bundle(bundle, str(run / "model"))
    rows = [
        {
            "partition": partition.key,
            "size": partition.size,
            "version": partition.version,
            "fingerprint": plan.partition_fingerprint(partition),
        }
        for partition in plan.survey.partitions
    ]
    write_table(run / "plan.parquet", rows, PLAN_SCHEMA)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    content = {**plan.describe(), "started": started, "based_on": based_on.number, "carried_from": follows}
    # The last of them: a run that has it can be resumed.
    write_json(run / "plan.json", content)
    return run_id


def _claim(catalog: Catalog, plan: RunPlan) -> str:
    content = json.dumps({"claimed_by": this_worker()}).encode()
    while True:
        newest = max((*catalog.run_ids(), catalog.current().run_id))
        run_id = new_run_id(plan.fingerprint, after=newest)
        with suppress(FileExistsError):  # by another one that began at once: the next identifier is free
            (catalog.run(run_id) / CLAIM).create(content)
            return run_id


def _find_published(plan: RunPlan, bundle: Bundle, catalog: Catalog) -> Prepared | None:
    current = catalog.current()
    record = catalog.read_json(current.run_id, "run.json") if current.run_id else None
    if record is None or record["fingerprint"] != plan.fingerprint or record["failed_partitions"]:
        return None
    return _prepared(plan, bundle, catalog, current.run_id, current, up_to_date=True)


def _find_unfinished(catalog: Catalog, plan: RunPlan) -> str | None:
    """Return the newest run that was cut off and is the same as `plan`; refuse to leave another newest one behind."""
    published = {pointer.run_id for pointer in catalog.history()}
    held = set(catalog.held_runs())
    newest_published = max(published, default="")
    unlike: tuple[str, dict[str, Any]] | None = None
    for run_id in reversed(catalog.run_ids()):
        if run_id in published:
            continue
        theirs = catalog.read_json(run_id, "plan.json")
        if theirs is None:
            continue  # cut off before it was a run
        if theirs["fingerprint"] == plan.fingerprint:
            if run_id in held:
                _check_held(catalog, run_id, plan.config)
            return run_id
        if run_id > newest_published and run_id not in held:
            unlike = unlike or (run_id, theirs)
    if unlike is None:
        return None
    run_id, theirs = unlike
    names = plan.ingredients
    what = difference(names, {name: theirs.get(name) for name in names})
    if changed := changed_files(plan.survey, catalog.run(run_id)):
        what.append(changed)
    raise RefusedError(
        expected=f"what the unfinished run {run_id} was started with",
        got="; ".join(what),
        where=str(catalog),
        fix="start it with the same survey, model and configuration, or give --fresh to begin a new run",
    )


def _check_held(catalog: Catalog, run_id: str, config: RunConfig) -> None:
    """Refuse to go into a held run again unless somebody changed its gate: then it is measured anew."""
    found = catalog.gate(run_id)
    if found["limits"] == limits_of(config):
        raise HeldError(
            expected="a run that passes its gate",
            got=f"run {run_id} of the same survey, model and configuration, which is held: " + "; ".join(found["held"]),
            where=str(catalog),
            fix=RELEASE.format(catalog=catalog, run_id=run_id) + "; --fresh classifies again",
        )
