"""The plan is pure data: fingerprints, chunks and projected memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varstar_batch.errors import InputError, RefusedError
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.plan import RunPlan, code_digests, difference, make_plan, projected_memory, split
from varstar_batch.survey.open import Columns, Partition, Source, Survey
from varstar_batch.survey.read import PartitionShape, RowGroupShape, batch_observations

COLUMNS = Columns(
    object_id="object_id",
    period="period",
    ra=None,
    dec=None,
    class_=None,
    healpix=None,
    lightcurve="lightcurve",
    time="time",
    mag="mag",
    mag_err=None,
)
SOURCE = Source(
    url="memory://survey",
    layout="directory",
    form="nested",
    columns=COLUMNS,
    object_id_type="int64",
    time_system="HJD",
    limits=Limits(),
)
PARTITIONS = tuple(Partition(f"part-{number:05d}.parquet", 1000 + number, f"v{number}") for number in range(5))
SURVEY = Survey(source=SOURCE, partitions=PARTITIONS)
MODEL = {"name": "m", "version": "1", "hash": "a" * 64}


def plan(survey: Survey = SURVEY, config: RunConfig | None = None, **changes: str) -> RunPlan:
    return RunPlan(survey=survey, config=config or RunConfig(), model=MODEL | changes, code=code_digests())


def test_the_fingerprint_is_the_same_for_the_same_and_differs_with_each_ingredient() -> None:
    base = plan().fingerprint
    assert plan().fingerprint == base
    changed = [
        plan(hash="b" * 64),
        plan(config=RunConfig(precision="bfloat16")),
        plan(replace(SURVEY, partitions=PARTITIONS[:-1])),
        plan(replace(SURVEY, partitions=(replace(PARTITIONS[0], size=1), *PARTITIONS[1:]))),
        plan(replace(SURVEY, partitions=(replace(PARTITIONS[0], version="w"), *PARTITIONS[1:]))),
        replace(plan(), code_version="0"),
    ]
    fingerprints = {other.fingerprint for other in changed}
    assert base not in fingerprints
    assert len(fingerprints) == len(changed)


def test_the_fingerprint_leaves_out_what_the_result_does_not_depend_on() -> None:
    assert plan(config=RunConfig(chunk_memory=2**24)).fingerprint == plan().fingerprint


def test_a_partitions_fingerprint_follows_its_own_file_only() -> None:
    other = plan(replace(SURVEY, partitions=(replace(PARTITIONS[0], version="w"), *PARTITIONS[1:])))
    assert other.partition_fingerprint(other.survey.partitions[0]) != plan().partition_fingerprint(PARTITIONS[0])
    assert other.partition_fingerprint(PARTITIONS[1]) == plan().partition_fingerprint(PARTITIONS[1])
    assert plan(hash="b" * 64).partition_fingerprint(PARTITIONS[1]) != plan().partition_fingerprint(PARTITIONS[1])


def test_difference_names_each_key() -> None:
    lines = difference({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "d": 4})
    assert lines == ["a.c: 5 then, 2 now", "d: 4 then, 3 now"]


def test_making_a_plan_checks_survey_and_contract() -> None:
    bundle = read_bundle()
    assert make_plan(SURVEY, bundle, RunConfig()).model["hash"] == bundle.hash
    with pytest.raises(InputError, match="at least one partition"):
        make_plan(replace(SURVEY, partitions=()), bundle, RunConfig())
    agreed = {"sigma": bundle.contract.preprocessing.sigma}
    assert (
        make_plan(SURVEY, bundle, RunConfig(preprocessing=agreed)).fingerprint
        == make_plan(SURVEY, bundle, RunConfig()).fingerprint
    )
    with pytest.raises(RefusedError, match=r"sigma=3\.0.*sigma=4\.5"):
        make_plan(SURVEY, bundle, RunConfig(preprocessing={"sigma": 4.5}))


row_groups = st.lists(
    st.builds(
        RowGroupShape,
        rows=st.integers(0, 5000),
        observations=st.integers(0, 2_000_000),
        compressed_bytes=st.integers(0, 10**8),
    ),
    max_size=30,
)


@given(row_groups, st.integers(2**20, 2**30))
def test_chunks_hold_every_row_group_once_in_order_and_stay_within_memory(
    groups: list[RowGroupShape], memory: int
) -> None:
    shape = PartitionShape(sum(group.rows for group in groups), tuple(groups), divisible=True)
    chunks = split(PARTITIONS[0], shape, memory)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {chunk.total for chunk in chunks} == {len(chunks)}
    assert len({chunk.key for chunk in chunks}) == len(chunks)
    if len(chunks) == 1:
        assert chunks[0].row_groups is None
        return
    held = [index for chunk in chunks for index in chunk.row_groups or ()]
    assert held == list(range(len(groups)))
    for chunk in chunks:
        need = sum(projected_memory(groups[i].rows, groups[i].observations) for i in chunk.row_groups or ())
        assert need <= memory or len(chunk.row_groups or ()) == 1


def test_an_indivisible_partition_is_one_chunk() -> None:
    groups = (RowGroupShape(10**6, 10**6, 10**7),) * 4
    shape = PartitionShape(None, groups, divisible=False)
    assert len(split(PARTITIONS[0], shape, 2**20)) == 1
    assert len(split(PARTITIONS[0], replace(shape, divisible=True), 2**30)) == 4


def test_a_row_group_of_very_many_objects_is_cut_by_its_catalog_rows() -> None:
    shape = PartitionShape(200_000, (RowGroupShape(200_000, 200_000, 10**6),), divisible=True)
    chunks = split(PARTITIONS[0], shape, 2**20)
    assert [chunk.rows for chunk in chunks] == [(0, 65_536), (65_536, 131_072), (131_072, 196_608), (196_608, 200_000)]
    assert len(split(PARTITIONS[0], shape, 2**27)) == 1


@given(st.integers(2**20, 2**34), st.floats(10, 5000))
def test_a_batch_of_any_light_curves_stays_within_its_memory(memory: int, per_object: float) -> None:
    observations = batch_observations(memory)
    assert projected_memory(int(observations / per_object), observations) <= memory
