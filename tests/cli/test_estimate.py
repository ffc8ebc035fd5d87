"""`varstar estimate`: pure arithmetic on footers and rates, and what the command refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.makers import survey_files
from varstar_batch.cli import main
from varstar_batch.cluster.measure_rates import Sample, combine, with_rates
from varstar_batch.errors import InputError
from varstar_batch.progress import duration, pace
from varstar_batch.runs.estimate import Prices, Rates, Workload, foretell, measure_workload, read_rates
from varstar_batch.runs.plan import chunk_peak
from varstar_batch.survey.read import PartitionShape, RowGroupShape

MEMORY = 256 * 2**20
RATES = Rates(
    classify=5_000,
    prepare=20e6,
    write=100_000,
    partition_seconds=0.0,
    start_up=4.0,
    finish=2.0,
    finish_partition=0.0,
    worker_memory=300 * 2**20,
    command_memory=200 * 2**20,
)
WORK = Workload(
    partitions=100, chunks=100, objects=1_000_000, observations=200_000_000, bytes_in=10**9, chunk_memory=2**26
)
RATES_TEXT = json.dumps({"classify": 5000, "prepare": 2e7, "write": 1e5})


def shape(rows: int | None, observations: int) -> PartitionShape:
    return PartitionShape(rows, (RowGroupShape(rows or observations, observations, 1000),), rows is not None)


def test_the_time_is_the_sum_of_the_stages_over_the_workers() -> None:
    found = foretell(WORK, RATES, workers=10, chunk_memory=MEMORY)
    assert found.cpu_seconds == pytest.approx(1e6 / 5_000 + 2e8 / 20e6 + 1e6 / 1e5)
    assert found.working == pytest.approx(found.cpu_seconds / 10)
    assert found.seconds == pytest.approx(4 + found.working + 2)
    assert found.limited_by == "workers"
    assert found.gpu_seconds == 0


def test_the_last_chunks_leave_workers_idle() -> None:
    few = replace(WORK, chunks=3, partitions=3)
    two, three = (foretell(few, RATES, workers=count, chunk_memory=MEMORY).working for count in (2, 3))
    assert two == pytest.approx(2 * three)
    assert foretell(few, RATES, workers=50, chunk_memory=MEMORY).working == pytest.approx(three)


def test_gpus_take_the_network_from_the_workers() -> None:
    fast = replace(RATES, gpu=1_000_000.0)
    found = foretell(WORK, fast, workers=10, gpus=1, chunk_memory=MEMORY)
    assert found.cpu_seconds == pytest.approx(20)
    assert found.gpu_seconds == pytest.approx(1)
    assert (found.working, found.limited_by) == (pytest.approx(2), "workers")
    slow = foretell(WORK, replace(fast, gpu=100_000.0), workers=10, gpus=2, chunk_memory=MEMORY)
    assert (slow.working, slow.limited_by) == (pytest.approx(5), "gpus")
    assert slow.gpu_hours == pytest.approx(2 * slow.seconds / 3600)


def test_memory_is_bounded_by_the_chunks() -> None:
    small = foretell(WORK, RATES, workers=4, chunk_memory=MEMORY)
    assert small.worker_memory == RATES.worker_memory + chunk_peak(WORK.chunk_memory)
    assert small.memory == 4 * small.worker_memory + RATES.command_memory
    large = foretell(replace(WORK, chunk_memory=2**40), RATES, workers=4, chunk_memory=MEMORY)
    assert large.worker_memory == RATES.worker_memory + chunk_peak(MEMORY)
    rows = foretell(replace(WORK, chunk_rows=10**5), RATES, workers=4, chunk_memory=MEMORY)
    assert rows.worker_memory == small.worker_memory + chunk_peak(0, 10**5) - chunk_peak(0)


def test_the_cost_is_of_all_hours_from_start_to_end() -> None:
    found = foretell(
        WORK,
        replace(RATES, gpu=1e6),
        workers=10,
        gpus=1,
        chunk_memory=MEMORY,
        prices=Prices(core_hour=0.05, gpu_hour=4.0),
    )
    assert found.cost == pytest.approx(found.seconds / 3600 * (10 * 0.05 + 4.0))


@given(
    workers=st.integers(1, 10_000),
    objects=st.integers(0, 10**9),
    chunks=st.integers(1, 10**5),
)
def test_more_workers_never_take_longer(workers: int, objects: int, chunks: int) -> None:
    work = replace(WORK, objects=objects, chunks=chunks)
    fewer, more = (foretell(work, RATES, workers=count, chunk_memory=MEMORY) for count in (workers, workers + 1))
    assert more.working <= fewer.working * (1 + 1e-12)
    assert fewer.working >= fewer.cpu_seconds / workers * (1 - 1e-12)


@pytest.mark.parametrize(("workers", "gpus"), [(0, 0), (-1, 0), (1, -1), (0, 4), (4, 1)])
def test_impossible_machines_are_refused(workers: int, gpus: int) -> None:
    with pytest.raises(InputError, match="--gpu"):
        foretell(WORK, RATES, workers=workers, gpus=gpus, chunk_memory=MEMORY)


def test_the_workload_of_all_partitions_is_their_sum() -> None:
    work = measure_workload([(100, shape(10, 2000), 1), (300, shape(30, 9000), 2)], 2, 400)
    assert (work.objects, work.observations, work.chunks, work.partitions) == (40, 11_000, 3, 2)


def test_the_workload_of_a_sample_is_scaled_by_its_bytes() -> None:
    work = measure_workload([(100, shape(10, 2000), 1)], 50, 4000)
    assert (work.objects, work.observations, work.chunks) == (400, 80_000, 50)


def test_the_long_form_tells_objects_by_the_mean_of_the_sample() -> None:
    work = measure_workload([(100, shape(None, 2000), 1)], 1, 100)
    assert work.objects is None
    assert work.with_objects(200.0).objects == 10
    assert WORK.with_objects(200.0) == WORK


def test_no_footer_is_no_workload() -> None:
    with pytest.raises(ValueError, match="at least one"):
        measure_workload([], 3, 100)


def test_rates_of_workers_timed_at_once_are_those_of_one() -> None:
    one = Sample(objects=100, observations=20_000, prepare=0.1, classify=0.5, write=0.01, idle_memory=1000)
    other = replace(one, classify=1.5, idle_memory=3000)
    rates = combine([one, other], start_up=3.0, command_memory=7)
    assert (rates.classify, rates.prepare, rates.write) == pytest.approx((100, 200_000, 10_000))
    assert (rates.observations_per_object, rates.worker_memory, rates.start_up) == (200, 3000, 3.0)


def test_rates_survive_their_file() -> None:
    assert read_rates(replace(RATES, gpu=2e6).to_json(), "rates.json") == replace(RATES, gpu=2e6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ("[]", "list"),
        ('{"classify": 1}', "missing"),
        ('{"speed": 1}', "unknown speed"),
        ('{"classify": 0, "prepare": 1, "write": 1}', "classify"),
        ('{"classify": 1, "prepare": 1, "write": 1, "gpu": -1}', "gpu"),
    ],
)
def test_files_that_are_no_rates_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_rates(text, "rates.json")


def test_known_rates_replace_measured_ones() -> None:
    rates = with_rates(RATES, classify_rate=7.0, gpu_rate=9.0)
    assert (rates.classify, rates.gpu) == (7.0, 9.0)
    assert with_rates(RATES, classify_rate=None, gpu_rate=None) == RATES
    with pytest.raises(InputError, match="--gpu-rate"):
        with_rates(RATES, classify_rate=None, gpu_rate=float("nan"))


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (600, "10 min"), (7200, "2.0 h"), (3.6e7, "10,000.0 h")])
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    folder = tmp_path / "survey"
    table = survey_files.make_table(survey_files.make_objects([60] * 20), "nested")
    survey_files.write(folder / "part-0.parquet", table)
    return folder


def test_the_command_with_rates_measures_nothing(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text(RATES_TEXT)
    saved = tmp_path / "saved.json"
    arguments = ["estimate", str(survey), "--workers", "3", "--rates", str(rates), "--rate", "100", "--json"]
    assert run([*arguments, "--gpus", "2", "--gpu-rate", "1e6", "--save-rates", str(saved)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["workload"]["objects"], found["workload"]["observations"]) == (20, 1200)
    assert (found["rates"]["classify"], found["rates"]["gpu"]) == (100, 1e6)
    assert json.loads(saved.read_text()) == found["rates"]
    assert run([*arguments[:-1], "--price-per-core-hour", "1"]) == 0
    text = capsys.readouterr().out
    assert "20 light curves" in text
    assert "cost" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "--workers"),
        (["--gpus", "1"], "--gpu-rate"),
        (["--rate", "-1"], "--rate"),
        (["--rates", "nowhere.json"], "nowhere.json"),
        (["--precision", "float16"], "precision"),
        (["--chunk-memory", "much"], "--chunk-memory"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text(RATES_TEXT)
    given_rates = [] if "--rates" in options else ["--rates", str(rates)]
    assert run(["estimate", str(survey), *given_rates, *options]) == 2
    complaint = capsys.readouterr().err.strip()
    assert said in complaint
    assert "\n" not in complaint


def test_a_survey_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", str(tmp_path / "nothing")]) == 2
    assert "nothing there" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_on_a_cluster_of_its_own(survey: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", str(survey), "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rates"]["classify"] > 0
    assert found["rates"]["start_up"] > 0
    assert found["rates"]["observations_per_object"] == 60
    assert found["memory"] > found["worker_memory"] > 0


@pytest.mark.parametrize(
    ("rate", "text"),
    [(16771.2, "16,771 objects/s"), (1.0, "1 objects/s"), (0.066, "15.2 s each"), (0.0, "0 objects/s")],
)
def test_what_takes_long_has_its_seconds_not_its_rate(rate: float, text: str) -> None:
    assert pace(rate, "objects") == text
