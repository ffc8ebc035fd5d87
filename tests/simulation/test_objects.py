"""The simulated survey: the same for the same seed, honest shapes, and what it says of itself holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.errors import InputError
from varstar_batch.files.location import locate
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.simulation import survey
from varstar_batch.simulation.cadence import FIRST_NIGHT, plan_nights
from varstar_batch.simulation.objects import SimulatedObjects, SimulationOptions, simulate_objects
from varstar_batch.simulation.survey import write_simulated_survey
from varstar_batch.survey.open import open_survey


def only(name: str, count: int = 60, seed: int = 3) -> SimulatedObjects:
    """Noiseless objects of one class."""
    fractions = tuple(float(other == name) for other in CLASSES)
    options = SimulationOptions(
        class_fractions=fractions, noise=0.0, no_period_fraction=0.0, outlier_fraction=0.0, sentinel_fraction=0.0
    )
    return simulate_objects(0, count, seed, options)


def good(objects: SimulatedObjects, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and magnitudes of one object, without upper limits."""
    curve = objects.light_curves.slice(index, index + 1)
    kept = curve.mag < 29
    return curve.time[kept], curve.mag[kept].astype(np.float64)


def folded(objects: SimulatedObjects, index: int, bins: int = 40) -> np.ndarray:
    """Mean magnitude by phase from maximum light, empty bins bridged."""
    time, mag = good(objects, index)
    phase = (time - time[mag.argmin()]) / objects.period[index] % 1
    which = (phase * bins).astype(int)
    count = np.bincount(which, minlength=bins)
    mean = np.bincount(which, mag, bins) / np.maximum(count, 1)
    filled = np.flatnonzero(count)
    return np.interp(np.arange(bins), filled, mean[filled], period=bins)


def fourier(time: np.ndarray, mag: np.ndarray, period: float) -> tuple[float, float]:
    """R_21 and phi_21 [rad, 0 to 2 pi) of a cosine series of five harmonics."""
    x = 2 * np.pi * (time / period % 1)
    columns = [np.ones_like(x)] + [wave(k * x) for k in range(1, 6) for wave in (np.cos, np.sin)]
    c = np.linalg.lstsq(np.column_stack(columns), mag, rcond=None)[0]
    first, second = complex(c[1], -c[2]), complex(c[3], -c[4])
    return abs(second) / abs(first), float(np.angle(second / first**2) % (2 * np.pi))


def many(objects: SimulatedObjects) -> list[int]:
    """Objects with enough observations to see their shape."""
    return [index for index in range(len(objects)) if good(objects, index)[0].size > 150]


def test_an_object_depends_on_the_seed_and_its_number_only() -> None:
    whole = simulate_objects(0, 50, 7)
    for first, count in ((0, 20), (20, 30)):
        part = simulate_objects(first, count, 7)
        assert np.array_equal(part.object_id, whole.object_id[first : first + count])
        assert np.array_equal(part.period, whole.period[first : first + count], equal_nan=True)
        expected = whole.light_curves.slice(first, first + count)
        for name in ("time", "mag", "mag_err"):
            assert np.array_equal(getattr(part.light_curves, name), getattr(expected, name))
    other = simulate_objects(0, 50, 8)
    assert not np.array_equal(other.light_curves.offsets, whole.light_curves.offsets)


def test_crowded_fields_do_not_overflow() -> None:
    whole = simulate_objects(0, 3000, 1)
    n_obs = np.diff(whole.light_curves.offsets)
    first = int(np.convolve(n_obs, [1, 1, 1], "valid").argmax())
    # Three in a row so often observed that the times of four exceed the buffer that is laid out for a typical star.
    assert n_obs[first : first + 3].sum() > 4 * SimulationOptions().n_nights // 7
    part = simulate_objects(first, 4, 1).light_curves
    assert np.array_equal(part.time, whole.light_curves.slice(first, first + 4).time)


def test_no_objects_and_numbers_out_of_range() -> None:
    assert len(simulate_objects(5, 0, 1)) == 0
    for first, count, seed in ((-1, 1, 1), (0, -1, 1), (0, 1, -1), (0, 1, 2**63)):
        with pytest.raises(ValueError, match="expected"):
            simulate_objects(first, count, seed)


def test_stars_are_not_observed_beside_the_sun() -> None:
    objects = simulate_objects(0, 300, 1)
    sun = plan_nights(1, SimulationOptions().n_nights).sun
    ra, dec = np.radians(objects.ra), np.radians(objects.dec)
    star = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    curves = objects.light_curves
    night = (curves.time - FIRST_NIGHT).astype(int)
    which = np.repeat(np.arange(len(objects)), np.diff(curves.offsets))
    # The Sun moves a degree a day, and an observation may be written under the next night.
    assert (np.einsum("ij,ij->i", sun[night], star[which]) < np.cos(np.radians(48))).all()
    assert night.max() < SimulationOptions().n_nights + 1
    gaps = [
        np.diff(curves.time[a:b]).max() for a, b in zip(curves.offsets, curves.offsets[1:], strict=False) if b > a + 100
    ]
    assert np.median(gaps) > 60


def test_the_survey_is_what_it_says() -> None:
    objects = simulate_objects(0, 6000, 1)
    curves = objects.light_curves
    shares = np.bincount(objects.class_code, minlength=6) / len(objects)
    np.testing.assert_allclose(shares, SimulationOptions().class_fractions, atol=0.03)
    assert len(np.unique(objects.object_id)) == len(objects)
    assert objects.object_id.min() > 0
    n_obs = np.diff(curves.offsets)
    assert 200 < np.median(n_obs) < 260
    assert (n_obs < 50).any()
    assert n_obs.max() > 350
    assert 0.002 < np.isnan(objects.period).mean() < 0.03
    limits = curves.mag == np.float32(99.99)
    assert 0.001 < limits.mean() < 0.2
    assert (curves.mag_err[limits] == np.float32(99.99)).all()
    assert ((curves.mag[~limits] > 8) & (curves.mag[~limits] < 20)).all()
    inside = np.ones(len(curves.time) - 1, bool)
    inside[curves.offsets[1:-1] - 1] = False
    assert (np.diff(curves.time)[inside] > 0).all()
    # Uniform on the sphere: the mean of sin(dec) is 0 with a standard deviation of 1/sqrt(3 n).
    assert abs(np.sin(np.radians(objects.dec)).mean()) < 5 / np.sqrt(3 * len(objects))
    assert ((objects.ra >= 0) & (objects.ra < 360)).all()


def test_errors_say_the_truth_about_the_noise() -> None:
    options = SimulationOptions(outlier_fraction=0.0, sentinel_fraction=0.0)
    noisy, clean = simulate_objects(0, 400, 2, options), simulate_objects(0, 400, 2, SimulationOptions(noise=0.0))
    a, b = noisy.light_curves, clean.light_curves
    assert np.array_equal(a.time, b.time)
    both = (a.mag < 29) & (b.mag < 29)
    assert np.allclose(a.mag[both] * 1000, np.round(a.mag[both] * 1000), atol=0.01)  # three decimals
    pull = (a.mag[both] - b.mag[both]) / a.mag_err[both]
    assert 0.8 < np.median(np.abs(pull)) / 0.6745 < 1.25


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("CEP", 0.5, 80), ("DSCUT", 0.02, 0.3), ("ECL", 0.15, 100), ("M", 70, 800), ("RR", 0.18, 1.1), ("SR", 20, 600)],
)
def test_periods_are_those_of_the_class(name: str, low: float, high: float) -> None:
    period = only(name, 300).period
    assert low < period.min()
    assert period.max() < high


def test_miras_are_larger_than_semi_regulars() -> None:
    spread = {
        name: np.median([np.ptp(good(objects, index)[1]) for index in many(objects)])
        for name, objects in (("M", only("M")), ("SR", only("SR")))
    }
    assert spread["M"] > 2.2 > spread["SR"]


def test_rrab_rise_faster_than_they_fall() -> None:
    objects = only("RR", 120)
    rises = []
    for index in many(objects):
        if objects.period[index] > 0.45:  # the fundamental mode
            curve = folded(objects, index)
            rises.append(1 - int(curve.argmax()) / len(curve))
    assert len(rises) > 20
    assert np.median(rises) < 0.35


def test_the_bump_of_cepheids_moves_with_the_period() -> None:
    objects = only("CEP", 400)
    rise = {}
    for low, high in ((3, 6), (9, 11)):
        chosen = [index for index in many(objects) if low < objects.period[index] < high]
        assert len(chosen) > 5
        rise[low] = np.median([1 - int(folded(objects, index).argmax()) / 40 for index in chosen])
    # At ten days the bump stands on the maximum and the curve is nearly symmetric (Hertzsprung 1926).
    assert rise[3] < 0.35 < rise[9]


def test_the_bump_of_long_cepheids_is_on_the_rise() -> None:
    objects = only("CEP", 600)
    shoulder = {}
    for low, high in ((3.5, 6), (12, 17)):
        halts = []
        for index in many(objects):
            if low < objects.period[index] < high:
                curve = folded(objects, index)
                rise = -np.diff(curve[int(curve.argmax()) :]) / np.ptp(curve)
                halts.append(len(rise) > 4 and rise[1:-1].min() < 0.02)
        assert len(halts) > 10
        shoulder[low] = np.mean(halts)
    assert shoulder[3.5] < 0.3
    assert shoulder[12] > 0.6


def test_cepheids_have_the_shapes_of_real_ones(shared_data: Path) -> None:
    """Medians of R_21 and phi_21 by period, beside those of stars of OGLE (I band: other amplitudes, same shapes)."""
    stars = pq.read_table(shared_data / "ogle-lmc" / "objects.parquet").to_pandas().dropna(subset=["period"])
    stars = stars[stars["class_original"] == "Cepheid F"].set_index("object_id")["period"]
    bins = ((3, 3.3), (6.5, 7.2), (9.2, 10.8), (15, 25))
    chosen = {name: period for low, high in bins for name, period in stars[(stars > low) & (stars < high)][:25].items()}
    rows = pq.read_table(shared_data / "ogle-lmc" / "observations.parquet", filters=[("object_id", "in", list(chosen))])
    real = [
        (chosen[name], *fourier(group["time"].to_numpy(), group["mag"].to_numpy(), chosen[name]))
        for name, group in rows.to_pandas().query("mag < 29").groupby("object_id")
    ]
    objects = only("CEP", 1500)
    # Overtones are left out by their period and small R_21.
    made = [(objects.period[i], *fourier(*good(objects, i), objects.period[i])) for i in many(objects)]
    for low, high in bins:
        ours, theirs = (np.array([row for row in rows if low < row[0] < high]) for rows in (made, real))
        assert min(len(ours), len(theirs)) >= 8
        if high < 6:
            ours = ours[ours[:, 1] > 0.3]
        assert abs(np.median(ours[:, 1]) - np.median(theirs[:, 1])) < 0.08
        if not 9 < low < 11:  # at ten days the second harmonic, and with it its phase, is lost
            assert abs(np.median(ours[:, 2]) - np.median(theirs[:, 2])) < 0.35


def test_rrab_of_long_period_are_smaller() -> None:
    objects = only("RR", 300)
    rows = [(objects.period[i], np.ptp(good(objects, i)[1])) for i in many(objects) if objects.period[i] > 0.45]
    period, amplitude = np.array(rows).T
    assert np.corrcoef(period, amplitude)[0, 1] < -0.4
    assert ((amplitude > 0.15) & (amplitude < 2.2)).all()


def test_eclipses_are_half_a_period_apart() -> None:
    objects = only("ECL", 400)
    apart = []
    for index in many(objects):
        if objects.period[index] < 3:  # circular orbits
            curve = folded(objects, index)
            deep = int(curve.argmax())
            away = np.roll(curve, -deep)[10:31]
            # The faintest place of the other half: the second eclipse, wherever it can be told from the rest.
            if away.max() - away.min() > 0.05:
                apart.append(abs(int(away.argmax()) - 10))
    assert len(apart) > 100
    assert np.mean(np.array(apart) <= 1) > 0.9


def test_eclipsing_binaries_are_mostly_bright_and_fade_twice() -> None:
    objects = only("ECL", 120)
    twice = detached = 0
    for index in many(objects):
        curve = folded(objects, index)
        depth = curve - np.median(curve)
        deep = int(depth.argmax())
        if depth[deep] > 0.15 and np.mean(depth > depth[deep] / 2) < 0.2:
            detached += 1
            away = np.roll(depth, -deep)[5:-5]
            twice += bool(away.max() > 0.15 * depth[deep])
    assert detached > 20
    assert twice > 0.4 * detached


@pytest.mark.parametrize(
    "options", [{"class_fractions": (1.0,) * 5}, {"n_nights": 1}, {"exposures": 4}, {"noise": -1.0}, {"noise": np.nan}]
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SimulationOptions(**options)  # type: ignore[arg-type]


def test_files_are_the_same_for_the_same_seed_and_rows_whatever_the_partitions(tmp_path: Path) -> None:
    for name, partitions in (("a", 3), ("b", 3), ("c", 2)):
        write_simulated_survey(tmp_path / name, objects=100, partitions=partitions, seed=4)
    write_simulated_survey(tmp_path / "d", objects=100, partitions=3, seed=5)
    names = [f"part-{number:05d}.parquet" for number in range(3)]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert pq.read_table(tmp_path / "a").equals(pq.read_table(tmp_path / "c"))
    assert not pq.read_table(tmp_path / "a").equals(pq.read_table(tmp_path / "d"))


def test_the_written_survey_opens_as_one(tmp_path: Path) -> None:
    done: list[int] = []
    write_simulated_survey(tmp_path / "survey", objects=50, partitions=7, seed=1, progress=done.append)
    survey = open_survey(tmp_path / "survey")
    assert (survey.source.form, survey.source.time_system, len(survey.partitions)) == ("nested", "HJD", 7)
    assert sum(done) == 50
    counts = [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "survey").iterdir())]
    assert sum(counts) == 50
    assert max(counts) - min(counts) <= 1


def test_schema_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_simulated_survey(tmp_path / "one", objects=25, partitions=1, seed=2)
    monkeypatch.setattr(survey, "BATCH_OBJECTS", 10)
    write_simulated_survey(tmp_path / "many", objects=25, partitions=1, seed=2)
    file = pq.ParquetFile(tmp_path / "many" / "part-00000.parquet")
    # What is simulated at once is written at once: memory does not grow with the partition.
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [10, 10, 5]
    assert file.read().equals(pq.read_table(tmp_path / "one" / "part-00000.parquet"))
    schema = file.schema_arrow
    assert schema.names == ["object_id", "ra", "dec", "period", "class", "lightcurve"]
    assert [str(kind) for kind in schema.types[:5]] == ["int64", "double", "double", "double", "string"]
    lists = {field.name: field.type.value_type for field in schema.field("lightcurve").type}
    assert lists == {"time": pa.float64(), "mag": pa.float32(), "mag_err": pa.float32()}
    assert schema.metadata[b"varstar.time_system"] == b"HJD"


def test_an_object_store_takes_the_same_bytes(tmp_path: Path) -> None:
    out = locate("memory://simulated/survey", what="survey")
    try:
        write_simulated_survey("memory://simulated/survey", objects=9, partitions=2, seed=3)
        write_simulated_survey(tmp_path / "local", objects=9, partitions=2, seed=3)
        names = ["part-00000.parquet", "part-00001.parquet"]
        assert out.children() == names
        assert all((out / name).read_bytes() == (tmp_path / "local" / name).read_bytes() for name in names)
    finally:
        out.remove()


def test_wrong_numbers_and_places(tmp_path: Path) -> None:
    for words in ({"objects": 0}, {"partitions": 0}, {"partitions": 11}, {"seed": -1}):
        numbers = {"objects": 10, "partitions": 2, "seed": 1} | words
        with pytest.raises(InputError, match=f"--{next(iter(words))}"):
            write_simulated_survey(tmp_path / "survey", **numbers)
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "x").touch()
    with pytest.raises(InputError, match="one with x"):
        write_simulated_survey(tmp_path / "held", objects=10, partitions=1, seed=1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["held", "x"]


def test_an_interrupted_simulation_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_simulated_survey(tmp_path / "survey", objects=10, partitions=2, seed=1, progress=stop)
    assert list(tmp_path.iterdir()) == []
