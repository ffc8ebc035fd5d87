"""The benchmarks' own arithmetic and writing; nothing here is about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks import bench_gpu, end_to_end, scaling
from tests.benchmarks.classifying import Classified
from tests.benchmarks.gpus import known_gpu, work_of
from tests.benchmarks.harness import (
    MFLOP,
    Options,
    Part,
    ProcessRun,
    checked,
    in_turns,
    machine,
    rows_of,
    run_process,
)
from tests.benchmarks.measures import Row, Spread, paired_ratio, slope, spread
from tests.benchmarks.report import BEGIN, END, draw, section, table, write_section
from tests.benchmarks.surveys import SurveySize, write_survey
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.networks import build_paper_network
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches

ROWS = [
    Row(name="naive.py", value=Spread(1000.0, 900.0, 1100.0), rounds=5, memory=2**30, floor=7000.0),
    Row(
        name="varstar",
        value=Spread(3500.0, 3400.0, 3600.0),
        rounds=5,
        ratio=Spread(3.5, 3.1, 4.0),
        against="naive.py",
        note="honest",
    ),
]


def results() -> dict[str, object]:
    part = Part("End to end", ROWS, ["Start-up 4 s."]).to_json() | {"measured": "2026-11-22", "seconds": 1.0}
    growth = {"x": [1, 10, 100], "seconds": [1.0, 10.0, 100.0], "exponent": 1.0}
    scaling = Part("Scaling", [ROWS[0]], [], {"objects": growth, "seconds_per_partition": 0.1}).to_json()
    broken = {"failed": "no such file", "measured": "2026-11-22", "seconds": 0.1}
    return {
        "machine": machine(),
        "parts": {"scaling": scaling | {"measured": "2026-11-22"}, "end_to_end": part, "fold": broken},
    }


def test_a_spread_is_median_lowest_and_highest() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0, 2.5]) == Spread(2.5, 1.0, 10.0)
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_ratios_are_of_pairs() -> None:
    # The machine slowed down threefold on the way, both of each pair alike: the ratio stays.
    assert paired_ratio([40.0, 20.0, 13.2], [10.0, 5.0, 3.3]) == Spread(4.0, 4.0, 4.0)
    assert paired_ratio([4.0], [2.0, 1.0]) == Spread(2.0, 2.0, 2.0)


def test_the_slope_of_a_power_law() -> None:
    x = [10.0, 100.0, 1000.0]
    assert slope(x, [3 * value**1.5 for value in x]) == pytest.approx(1.5)
    assert slope(x, [7.0, 7.0, 7.0]) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="two different"):
        slope([1.0, 1.0], [1.0, 2.0])


def test_measuring_takes_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    def call(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    values = in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert values == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    rows = rows_of(values)
    assert rows[0].ratio is None
    assert (rows[1].against, rows[1].ratio) == ("a", paired_ratio([4.0, 6.0], [3.0, 5.0]))


def test_a_process_is_watched_to_its_end() -> None:
    run = run_process([sys.executable, "-c", "print('said'); x = bytearray(2 ** 26); import time; time.sleep(0.8)"])
    assert (run.code, run.out) == (0, "said\n")
    assert run.memory > 2**26
    failed = run_process([sys.executable, "-c", "raise SystemExit('it broke')"])
    with pytest.raises(RuntimeError, match="it broke"):
        checked(failed)
    with pytest.raises(subprocess.TimeoutExpired):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.1)


def test_what_a_rival_prints_is_understood() -> None:
    def run(out: str) -> ProcessRun:
        return ProcessRun(0, 9.0, 1, 0.0, out, "")

    assert end_to_end.printed_rate(run("noise\nnaive 20000 objects 4.00 seconds 5000 objects/s\n"), 20_000) == 5_000
    # A rival that leaves out what it could not classify has read it all the same.
    assert end_to_end.printed_rate(run("lsdb 19990 objects 4.00 seconds 4998 objects/s\n"), 20_000) == 5_000
    for out in ("", "naive 0 objects 1.00 seconds", "naive 20001 objects 1.00 seconds"):
        with pytest.raises(RuntimeError, match="expected a line"):
            end_to_end.printed_rate(run(out), 20_000)


def test_without_the_baseline_there_are_no_rivals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(end_to_end, "NAIVE", tmp_path / "naive.py")
    assert end_to_end.rival_commands(tmp_path, tmp_path, tmp_path, 2) == {}


def test_rows_survive_their_file() -> None:
    assert [Row.from_json(json.loads(json.dumps(row.to_json()))) for row in ROWS] == ROWS


def test_a_table_shows_what_there_is() -> None:
    lines = table(Part("End to end", ROWS).to_json()).splitlines()
    assert "ratio" in lines[0]
    assert "of the floor" in lines[0]
    assert "3.5 (3.1 - 4.0)" in lines[3]
    assert "1,024 MiB" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    assert "ratio" not in table(Part("", ROWS[:1]).to_json())


def test_the_section_of_the_page_is_replaced_not_added_to(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = section(results(), "docs/benchmarks.png")
    write_section(page, text)
    once = page.read_text()
    write_section(page, text)
    assert page.read_text() == once
    assert once.startswith(f"before\n{BEGIN}\nMeasured by")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once
    assert "docs/benchmarks.png" in once
    assert once.index("End to end") < once.index("Scaling")
    assert "no such file" not in once


@pytest.mark.parametrize("text", ["nothing", f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="expected one"):
        write_section(page, "x")
    assert page.read_text() == text


def test_the_page_has_its_markers() -> None:
    text = bench.PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_the_plot_is_drawn_from_results(tmp_path: Path) -> None:
    assert draw(results(), tmp_path / "docs" / "plot.png")
    assert (tmp_path / "docs" / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert not draw({"parts": {}}, tmp_path / "none.png")


def test_every_part_can_be_measured() -> None:
    for module, function in bench.PARTS.values():
        source = (Path(bench.__file__).parent / f"{module}.py").read_text()
        assert f"def {function}(options: Options) -> Part" in source


def test_a_part_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Part("Good", ROWS).to_json()
    outcomes = {"fold": {"failed": "it broke"}, "reading": good}
    monkeypatch.setattr(bench, "_run_apart", lambda name: dict(outcomes[name]))
    target = tmp_path / "results.json"
    before = {"machine": {}, "parts": {"fold": good | {"measured": "2026-01-01"}}}
    target.write_text(json.dumps(before))
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "fold", "--only", "reading", "--results", str(target)])
    assert bench.main() == 1
    parts = json.loads(target.read_text())["parts"]
    assert parts["fold"]["measured"] == "2026-01-01"
    assert parts["reading"]["rows"] == good["rows"]
    assert "it broke" in capsys.readouterr().out


def test_a_survey_for_benchmarks_is_one_that_can_be_classified(tmp_path: Path) -> None:
    size = SurveySize(objects=60, partitions=5, observations=100)
    folder = write_survey(tmp_path / "survey", size)
    survey = open_survey(folder)
    assert (survey.source.layout, len(survey.partitions)) == ("hats", 5)
    assert write_survey(folder, size) == folder
    seen = []
    for partition in survey.partitions:
        for batch in read_batches(survey.source, partition, None, 10_000):
            folded = fold(batch.light_curves, batch.period, Preprocessing(), survey.source.limits)
            assert folded.ok.all()
            assert 60 <= folded.n_obs.min() <= folded.n_obs.max() <= 140
            seen += batch.objects["object_id"].to_pylist()
    assert seen == list(range(60))
    again = write_survey(tmp_path / "again", size)
    for partition in survey.partitions:
        assert pq.read_table(again / partition.key).equals(pq.read_table(folder / partition.key))


def test_observations_scale_without_chance(tmp_path: Path) -> None:
    size = SurveySize(objects=8, partitions=4, observations=51, spread=0.0, sentinels=0.0)
    survey = open_survey(write_survey(tmp_path, size))
    (batch,) = read_batches(survey.source, survey.partitions[0], None, 10_000)
    assert set(batch.light_curves.n_obs.tolist()) == {51}
    assert np.max(batch.light_curves.mag_err) < 1


def test_the_operations_of_a_light_curve_are_those_of_the_network() -> None:
    length, channels, operations = 512, 1, 0
    for filters in (128, 64, 32, 32):
        operations += 2 * length * 3 * channels * filters
        length, channels = length // 2, filters
    operations += 2 * length * channels * 128 + 2 * 128 * 6
    assert operations / 1e6 == pytest.approx(MFLOP, rel=0.03)


def test_the_gpu_benchmark_skips_cleanly_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_gpu, "nvidia_driver_is_loaded", lambda: False)
    part = bench_gpu.measure(Options(quick=True, scratch=tmp_path))
    assert part.rows == []
    assert "No GPU" in part.notes[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("NVIDIA H200", 4.8),
        ("NVIDIA H100 80GB HBM3", 3.35),
        ("NVIDIA H100 PCIe", 2.0),
        ("NVIDIA A100-SXM4-80GB", 2.0),
        ("NVIDIA L40S", 0.864),
        ("NVIDIA GeForce RTX 4090", 1.008),
        ("Tesla T4", None),
    ],
)
def test_gpus_are_known_by_their_drivers_names(name: str, bandwidth: float | None) -> None:
    gpu = known_gpu(name)
    assert (None if gpu is None else gpu.bandwidth) == bandwidth
    assert gpu is None or gpu.float32 <= gpu.tf32 <= gpu.bfloat16


def test_what_the_papers_network_asks_for_is_what_the_floors_count() -> None:
    operations, moved = work_of(build_paper_network())
    assert operations / 1e6 == pytest.approx(MFLOP, rel=0.03)
    assert moved == 512 + 2 * (256 * 128 + 128 * 64 + 64 * 32 + 32 * 32)


def test_growth_is_told_by_its_exponent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fake(size: SurveySize, options: Options, workers: int | None = None) -> Classified:
        # Two milliseconds for a light curve of 51 observations on one worker, one second for each partition.
        working = 0.002 * size.objects * size.observations / 51 / (workers or options.workers) + size.partitions
        run = ProcessRun(0, 5.0 + working, 2**30, 0.0, "", "")
        return Classified(run, {"rows": size.objects, "seconds": working}, 5.0, 6.0)

    monkeypatch.setattr(scaling, "_classify", fake)
    part = scaling.measure(Options(scaling_objects=4_000_000, scaling_partitions=1000, scratch=tmp_path))
    assert part.facts["objects"]["exponent"] == pytest.approx(1.0, abs=0.05)
    assert part.facts["objects"]["memory_exponent"] == pytest.approx(0.0, abs=1e-6)
    assert part.facts["observations"]["exponent"] == pytest.approx(1.0, abs=0.05)
    assert part.facts["seconds_per_partition"] == pytest.approx(1.0, abs=1e-6)
    two_workers = next(row for row in part.rows if row.ratio)
    assert 1 < two_workers.ratio.median < 2
    assert "efficiency" in two_workers.note
    assert len(table(part.to_json()).splitlines()) == len(part.rows) + 2
