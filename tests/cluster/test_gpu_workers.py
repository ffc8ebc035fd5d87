"""Where the work goes: CPU workers fold, GPU workers classify, and what becomes of it when these are gone."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.makers.bands import banded_table
from tests.makers.clusters import cluster
from tests.makers.runs import at_the_first, read_rows, run, start, without_run
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.errors import PartitionError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.classify import classify
from varstar_batch.model.engines.open import open_engine
from varstar_batch.runs import chunks as chunks_module
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.gpu_tasks import (
    LEAST_SPAN,
    LEVELS,
    classify_folded,
    fold_chunk,
    list_chunks,
    pack,
    unpack,
    write_classified,
)
from varstar_batch.runs.plan import packed_rows
from varstar_batch.runs.tasks import assemble
from varstar_batch.survey.open import open_survey

PROBABILITIES = [f"prob_{name}" for name in CLASSES]


@given(
    npst.arrays(
        np.float32, st.tuples(st.integers(0, 6), st.just(16)), elements=st.floats(-100, 100, width=32, allow_nan=False)
    )
)
def test_packing_loses_half_a_step_of_each_curves_own_range(curves: np.ndarray) -> None:
    packed = pack(curves)
    assert packed.codes.nbytes == curves.nbytes // 2
    span = np.ptp(curves, axis=1) if len(curves) else np.empty(0)
    rounding = 1e-6 * np.abs(curves).max(initial=0) + LEAST_SPAN
    assert (np.abs(unpack(packed) - curves).max(axis=1, initial=0) <= 0.51 * span / LEVELS + rounding).all()


def test_packing_moves_no_probability_by_more_than_a_thousandth() -> None:
    from tests.makers.surveys import simulated_batch

    bundle = read_bundle()
    light_curves, period = simulated_batch(0, 2000)
    folded = fold(light_curves, period, bundle.contract.preprocessing, Limits(), features=True)
    engine = open_engine(bundle)
    exact = classify(bundle, engine, folded)
    curve = folded.curve.copy()
    curve[folded.ok] = unpack(pack(folded.curve[folded.ok]))
    packed = classify(bundle, engine, type(folded)(**{**vars(folded), "curve": curve}))
    moved = np.nanmax(np.abs(exact.probabilities - packed.probabilities))
    changed = int((exact.class_code != packed.class_code).sum())
    print(f"packed curves: greatest change of a probability {moved:.1e}, {changed} classes of 2,000 changed")
    assert moved < 1e-3
    assert changed <= 1


def test_the_model_is_read_once_in_a_process_and_anew_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(url: str) -> Bundle:
        read.append(url)
        return read_bundle(url)

    monkeypatch.setattr(chunks_module, "read_bundle", counted)
    survey = write_survey(tmp_path / "survey", (5, 5, 5))
    _, first = run(survey, tmp_path / "catalog")
    assert read == [str(first.context.run / "model")]
    _, second = run(survey, tmp_path / "catalog", fresh=True)
    assert read[1:] == [str(second.context.run / "model")]
    with pytest.raises(PartitionError, match="that the run was planned with"):
        chunks_module.load_bundle(replace(second.context, bundle_hash="0" * 64))
    assert len(read) == 3


@pytest.mark.parametrize("use_best_period", [False, True])
def test_fused_light_curves_take_the_gpu_workers_way_to_the_same_answers(tmp_path: Path, use_best_period: bool) -> None:
    survey = tmp_path / "survey"
    write_partition(survey / "part.parquet", banded_table(60, ("g", "r", "i")), row_group_rows=20)
    how = {"survey": {"bands": "fuse"}, "use_best_period": use_best_period, "chunk_memory": 2**20}
    config = RunConfig.model_validate(how)
    run(survey, tmp_path / "alone", config=config)
    context = start(survey, tmp_path / "waited", config).context
    chunks = list_chunks(context, open_survey(survey).partitions[0])
    # Several curves of a star wait together, so that fewer stars do.
    assert max(chunk.expected_rows or 0 for chunk in chunks) <= packed_rows(2**20, fused=True) < packed_rows(2**20)
    records = [
        write_classified(context, chunk, classify_folded(context, fold_chunk(context, chunk))) for chunk in chunks
    ]
    assemble(context, chunks, records)
    alone, waited = read_rows(tmp_path / "alone"), pq.read_table(context.output("part.parquet").path)
    assert all(text.count(":") == 3 for text in alone["n_obs_by_band"].to_pylist())
    assert pc.sum(pc.is_valid(alone["class"])).as_py() > 40
    assert waited["class"].equals(alone["class"])
    same_but_for_packing(alone, waited)


@pytest.mark.slow
def test_every_classify_runs_on_the_gpu_worker_and_every_fold_elsewhere(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (150, 150, 150, 150))
    # A partition of several chunks, and one that cannot be read.
    write_partition(survey / "cut.parquet", simulated_table(1000, 300), row_group_rows=40)
    write_partition(survey / "large.parquet", simulated_table(2000, 500))
    (survey / "bad.parquet").write_bytes(b"PAR1 not really")
    config = RunConfig(chunk_memory=2**20)
    with cluster(cpu1=(), cpu2=(), gpu=("--resources", "GPU=1")) as processes:
        gpu = processes.worker_process("gpu")
        assert gpu is not None
        record, prepared = run(survey, tmp_path / "catalog", config=config, scheduler=processes.address)
    assert record["rows"] == 1400
    assert record["failed_partitions"] == 1
    tasks = pq.read_table(f"{prepared.context.run}/tasks.parquet")
    pid = tasks["classifier"].to_pylist()
    assert {name.rsplit(":", 1)[1] for name in pid} == {str(gpu.pid)}
    assert str(gpu.pid) not in {name.rsplit(":", 1)[1] for name in tasks["worker"].to_pylist()}
    chunks = dict(zip(tasks["partition"].to_pylist(), tasks["chunks"].to_pylist(), strict=True))
    assert chunks["cut.parquet"] > 1
    assert chunks["large.parquet"] > 1  # one row group, cut by rows
    (survey / "bad.parquet").unlink()
    run(survey, tmp_path / "alone")
    same_but_for_packing(read_rows(tmp_path / "alone"), read_rows(tmp_path / "catalog"))


@pytest.mark.slow
@pytest.mark.parametrize("then", ["cpu", "wait"])
def test_a_lost_gpu_pool_is_replaced_or_waited_for(tmp_path: Path, then: str) -> None:
    survey = write_survey(tmp_path / "survey", (300,) * 10)
    config = RunConfig.model_validate({"lost_gpus": then, "lost_gpus_seconds": 2})
    catalog = tmp_path / "catalog"
    with cluster(cpu=(), gpu=("--resources", "GPU=1")) as processes:
        later = threading.Timer(4, processes.start_worker, ("gpu2", "--resources", "GPU=1"))

        def lose() -> None:
            processes.kill("gpu")
            if then == "wait":
                later.start()

        lose_one = at_the_first(lose)
        record, prepared = run(survey, catalog, config=config, scheduler=processes.address, on_partition=lose_one)
        if then == "wait":
            later.join()
    assert record["rows"] == read_rows(catalog).num_rows == 3000
    tasks = pq.read_table(f"{prepared.context.run}/tasks.parquet")
    on_cpu = pc.sum(pc.equal(tasks["worker"], tasks["classifier"])).as_py()
    assert (on_cpu > 0) == (then == "cpu")
    assert len(set(tasks["classifier"].to_pylist())) == 2


@pytest.mark.slow
def test_gpu_workers_that_come_when_something_waits_for_them_are_waited_for(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (300,) * 4)
    config = RunConfig.model_validate({"lost_gpus": "wait"})
    with cluster(cpu=()) as processes:
        later = threading.Timer(4, processes.start_worker, ("gpu", "--resources", "GPU=1"))
        later.start()
        record, prepared = run(survey, tmp_path / "catalog", config=config, scheduler=processes.address)
        later.join()
    assert record["rows"] == read_rows(tmp_path / "catalog").num_rows == 1200
    tasks = pq.read_table(f"{prepared.context.run}/tasks.parquet")
    assert pc.any(pc.equal(tasks["worker"], tasks["classifier"])).as_py() is False
    assert len(set(tasks["classifier"].to_pylist())) == 1


def same_but_for_packing(a: pa.Table, b: pa.Table) -> None:
    """All but what follows from curves is the same; that is as good as the same."""
    exact = ["object_id", "ra", "dec", "period", "n_obs", "n_used", "amplitude", "status"]
    assert without_run(a).select(exact).equals(without_run(b).select(exact))
    for name in PROBABILITIES:
        difference = np.abs(a[name].to_numpy() - b[name].to_numpy())
        assert np.nanmax(difference) < 1e-3
