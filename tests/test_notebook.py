"""Python first: one star, many, tables of every kind; the numbers of a catalog; errors in one sentence."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.table import Table
from astropy.time import Time, TimeDelta

import varstar_batch as vb
from tests.makers.runs import run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.columns.rows import Rows
from varstar_batch.errors import InputError
from varstar_batch.runs.in_memory import OF_RUNS

PERIOD = 0.55


def star(n: int = 200, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return time, magnitudes and errors of something like an RR Lyrae, unsorted."""
    random = np.random.default_rng(seed)
    time = random.uniform(2_458_000, 2_459_000, n)
    angle = 2 * np.pi * time / PERIOD
    mag = 14 - 0.4 * np.cos(angle) + 0.2 * np.cos(2 * angle) + random.normal(0, 0.01, n)
    return time, mag.astype(np.float32), np.full(n, 0.01, np.float32)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("notebook") / "survey", (60,))


@pytest.fixture(scope="module")
def stars(survey: Path) -> pa.Table:
    """The survey's rows, in hand."""
    return pq.read_table(next(survey.rglob("*.parquet")))


@pytest.fixture(scope="module")
def published(survey: Path) -> pa.Table:
    """What a catalog says of them, in the order of the survey."""
    run(survey, survey.parent / "catalog")
    return vb.open_catalog(survey.parent / "catalog").to_arrow().sort_by("object_id").drop_columns(list(OF_RUNS))


def same(rows: Rows, published: pa.Table, *but: str) -> None:
    """The rows are the catalog's, to the bit."""
    mine, theirs = rows.table.sort_by("object_id"), published
    assert mine.column_names == theirs.column_names
    for name in set(mine.column_names) - set(but):
        assert mine[name].combine_chunks().equals(theirs[name].combine_chunks()), name
    assert mine.drop_columns(list(but)).schema.equals(theirs.drop_columns(list(but)).schema)


def long_form(stars: pa.Table) -> dict[str, np.ndarray]:
    """Return one row an observation, shuffled."""
    curves = stars["lightcurve"].combine_chunks()
    counts = np.diff(curves.field("time").offsets.to_numpy())
    columns = {
        name: np.repeat(stars[name].to_numpy(), counts) for name in ("object_id", "period", "ra", "dec", "class")
    }
    columns |= {name: curves.field(name).values.to_numpy() for name in ("time", "mag", "mag_err")}
    order = np.random.default_rng(3).permutation(int(counts.sum()))
    return {name: values[order] for name, values in columns.items()}


def test_a_table_gives_the_numbers_of_the_catalog(stars: pa.Table, published: pa.Table) -> None:
    same(vb.classify(stars), published)


def test_arrays_give_the_numbers_of_the_catalog(stars: pa.Table, published: pa.Table) -> None:
    rows = stars.to_pylist()
    kinds = {"time": np.float64, "mag": np.float32, "mag_err": np.float32}
    lists = [[np.array(row["lightcurve"][name], kind) for row in rows] for name, kind in kinds.items()]
    found = vb.classify(*lists, stars["period"].to_numpy(), object_id=stars["object_id"])
    same(found, published, "ra", "dec", "label", "label_class")
    one = vb.classify(*(each[0] for each in lists), period=rows[0]["period"])
    assert one["prob_RR"][0] == found["prob_RR"][0]
    assert len(one) == 1


def pandas(columns: dict[str, np.ndarray]) -> Any:
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(columns)


def indexed(columns: dict[str, np.ndarray]) -> Any:
    return pandas(columns).set_index("object_id")


def polars(columns: dict[str, np.ndarray]) -> Any:
    pl = pytest.importorskip("polars")
    return pl.DataFrame(
        {name: values.tolist() if values.dtype == object else values for name, values in columns.items()}
    )


def astropy(columns: dict[str, np.ndarray]) -> Any:
    from astropy.table import Table

    return Table({name: values.astype(str) if values.dtype == object else values for name, values in columns.items()})


@pytest.mark.parametrize("kind", [pa.table, pandas, indexed, polars, astropy])
def test_rows_of_observations_in_any_order_give_them_too(kind: Any, stars: pa.Table, published: pa.Table) -> None:
    found = vb.classify(kind(long_form(stars)))
    # Observations at the same phase are averaged in their order, so the last bit may differ.
    assert found.table.schema.equals(published.schema)
    mine = found.table.sort_by("object_id")
    assert mine["class"].equals(published["class"])
    assert np.allclose(mine["prob_RR"].to_numpy(), published["prob_RR"].to_numpy(), atol=1e-6, equal_nan=True)


def test_nested_tables_of_pandas(survey: Path, published: pa.Table) -> None:
    nested = pytest.importorskip("nested_pandas")
    same(vb.classify(nested.read_parquet(next(survey.rglob("*.parquet")))), published)


def test_time_series_of_astropy() -> None:
    import astropy.units as u
    from astropy.time import Time
    from astropy.timeseries import TimeSeries

    time, mag, error = star()
    expected = vb.classify(time, mag, error, PERIOD)
    series = TimeSeries(time=Time(time, format="jd"), data={"mag": mag * u.mag, "mag_err": error * u.mag})
    assert vb.classify(series, period=PERIOD)["prob_RR"] == expected["prob_RR"]
    assert vb.classify(series, period=PERIOD * 24 * u.h)["period"][0] == pytest.approx(PERIOD)
    assert vb.classify(Time(time, format="jd"), mag * u.mag, error * u.mag, PERIOD)["prob_RR"] == expected["prob_RR"]
    # As lightkurve has them: fluxes, and days of the mission.
    flux = 10 ** (-0.4 * (mag.astype(float) - 22.5)) * u.nJy
    series = TimeSeries(time=Time(time - 2_457_000, format="jd"), data={"flux": flux, "flux_err": flux * 0.01})
    found = vb.classify(series, period=PERIOD)
    assert (found["class"][0], found["n_used"][0]) == (expected["class"][0], 200)


def test_periods_of_a_table_by_order_and_by_object() -> None:
    time, mag, error = star()
    table = pa.table({"object_id": np.repeat(["b", "a"], 100), "time": time, "mag": mag, "mag_err": error})
    assert vb.classify(table, period=PERIOD)["period"].tolist() == [PERIOD, PERIOD]
    assert vb.classify(table, period=[1.5, 2.5])["period"].tolist() == [1.5, 2.5]
    found = vb.classify(table, period={"a": 2.5, "b": 1.5})
    assert dict(zip(found["object_id"], found["period"], strict=True)) == {"b": 1.5, "a": 2.5}
    assert vb.classify(table, period=[np.nan, 2.5])["status"].tolist() == ["no_period", "ok"]


TIME, MAG, ERROR = star()
BANDS = np.repeat(["g", "r"], 100)
FRAME = pd.DataFrame({"time": TIME, "mag": MAG})


def test_periods_are_days_in_order_whatever_holds_them() -> None:
    """An index with gaps, a mask, nulls and units: none moves a period to another star."""
    given = ([TIME, TIME], [MAG, MAG])
    for period in (
        pd.Series([1.5, 2.5], index=[1, 7]),
        np.array([36, 60]) * units.hour,
        TimeDelta([1.5 * 86400, 2.5 * 86400], format="sec"),
        pa.array([1.5, 2.5]),
    ):
        assert vb.classify(*given, period=period)["period"].tolist() == [1.5, 2.5]
    for period in (np.ma.array([1, 2], mask=[True, False]), pa.array([None, 2.0])):
        assert vb.classify(*given, period=period)["status"].tolist() == ["no_period", "ok"]


def test_masked_integers_are_no_observations() -> None:
    mag = np.ma.array(np.round(MAG).astype(int), mask=np.arange(200) < 20)
    assert vb.fold(TIME, mag, period=1)["n_used"].tolist() == [180]


def test_a_fold_is_scaled_in_known_ways() -> None:
    with pytest.raises(InputError, match=r"scale.*minmax.*'max'"):
        vb.fold(TIME, MAG, period=1, scale="max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ((TIME, MAG[:5]), {"period": 1}, ("mag", "200", "5")),
        (([TIME, TIME], [MAG, MAG[:3]]), {"period": [1, 2]}, ("mag of light curve 1", "200", "3")),
        ((TIME, MAG), {}, ("period", "None")),
        ((TIME, MAG), {"period": np.nan}, ("period", "nan")),
        ((TIME, MAG), {"period": -1}, ("period", "above 0")),
        (([TIME], [MAG]), {"period": [1, 2]}, ("period", "1 light curves", "2")),
        ((TIME, MAG), {"period": 1, "band": BANDS}, ("g (100), r (100)", "bands='fuse'")),
        ((TIME, MAG.astype(str)), {"period": 1}, ("mag", "numbers")),
        ((TIME, MAG[:, None]), {"period": 1}, ("mag", "200")),
        ((3,), {"period": 1}, ("table of pandas, polars", "int")),
        ((pa.table({"time": TIME, "mag": MAG}),), {}, ("period", "none")),
        ((pa.table({"t": TIME, "mag": MAG}),), {"period": 1}, ("time",)),
        ((pa.table({"time": TIME, "mag": MAG}),), {"period": 1, "columns": {"magg": "x"}}, ("magg", "mag_err")),
        ((pa.table({"time": TIME, "mag": MAG}),), {"period": 1, "columns": "sdss"}, ("sdss", "asas-sn")),
        ((pa.table({"time": TIME, "mag": MAG}),), {"period": 1, "columns": {"time_system": "MJD"}}, ("MJD", "2458")),
        ((TIME, MAG), {"period": 1, "model": "/nowhere"}, ("bundle", "/nowhere")),
        ((TIME, MAG), {"period": "long"}, ("period", "days", "long")),
        ((TIME, MAG), {"period": 1 / units.d}, ("period", "days", "frequency")),
        ((TIME, MAG), {"period": {"x": 1}}, ("period", "'x'")),
        ((TIME, MAG), {"period": 1, "mira_amplitude": float("nan")}, ("mira-amplitude", "nan")),
        ((TIME, MAG), {"period": 1, "mira_amplitude": "x"}, ("mira-amplitude", "'x'")),
        ((TIME, MAG), {"period": 1, "columns": 5}, ("columns", "5")),
        ((TIME, MAG), {"period": 1, "band": BANDS, "bands": ["g", "r"]}, ("bands", "fuse")),
        (([TIME, TIME], [MAG, MAG]), {"period": 1, "object_id": [1, "a"]}, ("object_id", "texts")),
        ((TIME, MAG), {"period": 1, "model": 5}, ("model", "5", "leave it out")),
        ((TIME, MAG), {"period": 1, "band": BANDS, "bands": "z"}, ("bands", "g (100), r (100)", "z")),
        (([TIME, TIME], [MAG, MAG]), {"period": [1, 1], "object_id": ["a", "a"]}, ("object_id", "'a'", "once")),
        ((TIME, MAG * units.Jy), {"period": 1}, ("mag", "Jy")),
        ((pd.concat([FRAME, FRAME[["mag"]]], axis=1),), {"period": 1}, ("one name", "mag")),
    ],
)
def test_what_cannot_be_classified_is_one_sentence(given: Any, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        vb.classify(*given, **options)
    text = str(refused.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_no_light_curves_are_no_rows() -> None:
    for period in (None, [], np.array([]), {}):
        assert len(vb.classify([], [], period=period)) == len(vb.fold([], [], period=period)) == 0
    # One star without observations is a row.
    for empty in ([], np.array([])):
        assert vb.classify(empty, empty, period=1.0)["status"].tolist() == ["no_observations"]
    assert vb.classify([[], []], [[], []], period=[1, 2])["status"].tolist() == ["no_observations"] * 2


def test_magnitudes_of_a_known_zero_are_magnitudes() -> None:
    plain = vb.classify(TIME, MAG, ERROR, PERIOD)
    for unit in (units.ABmag, units.STmag, units.mag):
        told = vb.classify(TIME * units.d, MAG * unit, ERROR * units.mag, PERIOD * units.d)
        assert told["prob_RR"] == plain["prob_RR"]
    table = Table({"time": TIME * units.d, "mag": MAG * units.ABmag, "mag_err": ERROR * units.mag})
    assert vb.classify(table, period=PERIOD)["prob_RR"] == plain["prob_RR"]


def test_a_light_curve_of_lightkurve() -> None:
    lightkurve = pytest.importorskip("lightkurve", reason="needs lightkurve, which asks for pandas before 3")
    flux = 10 ** (-0.4 * (MAG - 15))
    curve = lightkurve.LightCurve(time=Time(TIME, format="jd"), flux=flux * units.electron / units.s)
    curve.flux_err = flux * 0.02 * units.electron / units.s
    found = vb.classify(curve, period=PERIOD)
    plain = vb.classify(TIME, MAG, np.full(len(TIME), 0.0217, np.float32), PERIOD)
    assert (found["class"], found["n_used"].tolist()) == (plain["class"], plain["n_used"].tolist())
    assert found["prob_RR"][0] == pytest.approx(plain["prob_RR"][0], abs=1e-3)


def test_bands_are_chosen_or_fused() -> None:
    fused = vb.classify(TIME, MAG, ERROR, PERIOD, band=BANDS, bands="fuse")
    assert fused["n_obs_by_band"].tolist() == ["g:100, r:100"]
    one = vb.classify(TIME, MAG, ERROR, PERIOD, band=BANDS, bands="r")
    assert one["prob_RR"] == vb.classify(TIME[100:], MAG[100:], ERROR[100:], PERIOD)["prob_RR"]


def test_a_period_that_is_wrong_is_told_and_may_be_put_right() -> None:
    wrong = vb.classify(TIME, MAG, ERROR, 2 * PERIOD)
    right = vb.classify(TIME, MAG, ERROR, 2 * PERIOD, use_best_period=True)
    assert (wrong["period_flag"][0], wrong["best_period"][0]) == ("P/2", pytest.approx(PERIOD))
    assert right["period"][0] == pytest.approx(PERIOD)
    assert right["prob_RR"][0] == pytest.approx(vb.classify(TIME, MAG, ERROR, PERIOD)["prob_RR"][0], abs=1e-6)


def test_rows_are_shown_and_handed_on() -> None:
    rows = vb.classify([TIME] * 12, [MAG] * 12, [ERROR] * 12, np.full(12, PERIOD))
    assert repr(rows).splitlines()[0].split()[:2] == ["object_id", "period"]
    assert "12 rows" in repr(rows)
    assert "10 are shown" in repr(rows)
    assert rows._repr_html_().count("<tr>") == 11
    assert rows[-1]["object_id"] == 11
    assert [row["object_id"] for row in rows] == list(range(12))
    assert "class_prob" in rows.columns
    assert (
        "<" not in Rows(pa.table({"object_id": ["<script>"] * 2}))._repr_html_().replace("<t", "").replace("</", "")[:1]
    )
    assert "&lt;script&gt;" in Rows(pa.table({"object_id": ["<script>"] * 2}))._repr_html_()
    with pytest.raises(KeyError, match="no column"):
        rows["nothing"]
    assert pa.table(rows).num_rows == 12
    assert list(rows.to_pandas()["class"]) == rows["class"].tolist()
    assert str(rows.to_astropy()["period"].unit) == "d"
    pl = pytest.importorskip("polars")
    assert rows.to_polars().shape == (12, len(rows.columns))
    assert pl.DataFrame(rows).shape == (12, len(rows.columns))


def test_fold_and_plot(survey: Path) -> None:
    folded = vb.fold(TIME, MAG, ERROR, PERIOD)
    curve = np.array(folded[0]["curve"])
    assert (folded[0]["status"], curve.shape) == ("ok", (512,))
    assert folded[0]["amplitude"] == pytest.approx(np.ptp(MAG), abs=1e-3)
    assert np.ptp(np.array(vb.fold(TIME, MAG, ERROR, PERIOD, scale="minmax")[0]["curve"])) == pytest.approx(1)

    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    axes = vb.plot(TIME, MAG, ERROR, period=PERIOD)
    assert "phase, P = 0.55 d" in axes.get_xlabel()
    assert axes.yaxis_inverted()
    mine = pyplot.figure().add_subplot()
    assert vb.plot(TIME, MAG, ax=mine) is mine
    assert "time" in mine.get_xlabel()
    assert len(mine.containers[0][0].get_xdata()) == 200
    pyplot.close("all")
    with pytest.raises(InputError, match="one star"):
        vb.plot([TIME, TIME], [MAG, MAG], period=[1, 1])


def test_the_operations_take_their_fields(survey: Path, tmp_path: Path) -> None:
    done = vb.classify_survey(survey=survey, catalog=tmp_path / "catalog", workers=0)
    assert done.record["rows"] == 60
    with pytest.raises(InputError, match=r"workerz.*workers"):
        vb.classify_survey(survey=survey, catalog=tmp_path / "catalog", workerz=0)
    with pytest.raises(InputError, match="objects"):
        vb.ingest(observations=survey, out=tmp_path / "out")
    with pytest.raises(InputError, match="out"):
        vb.train(surveys=("a",))
    assert len(vb.open_survey(survey).partitions) == 1
    assert vb.open_model().contract.classes


def test_ingest_stays_a_function_once_its_package_is_loaded(tmp_path: Path) -> None:
    code = (
        "import varstar_batch as vb, varstar_batch.ingest.options as options\n"
        "from varstar_batch.errors import InputError\n"
        "assert options.LONG == 'long'\n"
        "for _ in range(2):\n"
        "    try: vb.ingest(observations='/nowhere', out='out', format='auto')\n"
        "    except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.count("/nowhere") == 2


def test_names_are_there_before_anything_is_loaded() -> None:
    code = (
        "import sys, varstar_batch as vb\n"
        "assert {'classify', 'fold', 'plot', 'open_catalog', 'open_model', 'ingest', 'train'} <= set(dir(vb))\n"
        "print(*sorted({'numpy', 'pyarrow', 'pydantic', 'duckdb', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert (Path(vb.__file__).parent / "py.typed").exists()


PAGE = Path(__file__).resolve().parents[1] / "docs/python.md"
SNIPPETS = {
    title: re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    for title, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
}


def test_the_pages_first_snippets_run() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    names: dict[str, Any] = {"time": TIME, "mag": MAG, "mag_err": ERROR}
    for code in (*SNIPPETS["From three arrays to a class in two lines"], *SNIPPETS["Look at it"]):
        exec(code, names)
    assert names["star"]["status"][0] == "ok"
    assert "Surveys, runs, models" in SNIPPETS


def test_the_pages_questions_to_a_catalog_run(published: pa.Table, survey: Path) -> None:
    [code] = SNIPPETS["Catalogs"]
    pytest.importorskip("polars")
    names: dict[str, Any] = {"vb": vb}
    exec(code.replace('"catalog")', f"{str(survey.parent / 'catalog')!r})"), names)
    assert names["catalog"].run_id


def test_the_pages_operations_have_these_fields() -> None:
    from varstar_batch.ingest.options import IngestRequest
    from varstar_batch.training.options import TrainingRequest

    models = {"ingest": IngestRequest, "classify_survey": vb.ClassifyRequest, "train": TrainingRequest}
    [code] = SNIPPETS["Surveys, runs, models"]
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    named = {
        call.func.attr: {each.arg for each in call.keywords} for call in calls if isinstance(call.func, ast.Attribute)
    }
    assert models.keys() <= named.keys()
    for name, model in models.items():
        assert named[name] <= model.model_fields.keys()
