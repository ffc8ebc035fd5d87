"""Light curves in several bands: never mixed; one is chosen, or each is folded by itself and answers are combined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.bands import RUBIN_BANDS, banded_table, rubin_table
from tests.makers.survey_files import fault, read_all, write
from varstar_batch.errors import InputError
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.light_curves.status import DropReason
from varstar_batch.survey.columns import PRESETS, SurveyConfig
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import check_bands
from varstar_batch.training.stars.read_labelled import read_labelled

RULES = Preprocessing(min_observations=20)


def in_form(table: pa.Table, form: str, nested: str = "lightcurve") -> pa.Table:
    """Return nested light curves in another form."""
    struct = table[nested].combine_chunks()
    lists = dict(zip([field.name for field in struct.type], struct.flatten(), strict=True))
    others = table.drop_columns([nested])
    if form == "lists":
        return pa.table(
            {**{name: others[name] for name in others.column_names}, **lists}, metadata=table.schema.metadata
        )
    if form == "structs":
        values = pa.StructArray.from_arrays([one.flatten() for one in lists.values()], list(lists))
        offsets = next(iter(lists.values())).offsets
        return others.append_column(nested, pa.ListArray.from_arrays(offsets.cast(pa.int32()), values))
    if form == "long":
        rows = pa.array(np.repeat(np.arange(len(struct)), [len(one) for one in lists["time"].to_pylist()]))
        return (
            others.take(rows)
            .append_column("time", lists["time"].flatten())
            .append_column("mag", lists["mag"].flatten())
            .append_column("mag_err", lists["mag_err"].flatten())
            .append_column("band", lists["band"].flatten())
        )
    return table


@pytest.mark.parametrize("form", ["nested", "lists", "structs", "long"])
def test_bands_are_refused_chosen_or_kept_apart_in_every_form(tmp_path: Path, form: str) -> None:
    table = banded_table(12)
    write(tmp_path / "a.parquet", in_form(table, form))
    survey = open_survey(tmp_path)
    assert (survey.source.form, survey.source.columns.band) == (form, "band")
    total = sum(len(one) for one in table["lightcurve"].combine_chunks().field("time").to_pylist())
    with pytest.raises(InputError) as caught:
        check_bands(survey)
    for text in (str(caught.value), str(fault(survey, max_observations=10**6))):
        assert f"g ({(total + 1) // 2:,}), r ({total // 2:,})" in text
        assert "\n" not in text
        assert "--band g" in text
        assert "--bands fuse" in text
    (one,) = read_all(open_survey(tmp_path, SurveyConfig(bands="r")))
    (fused,) = read_all(open_survey(tmp_path, SurveyConfig(bands="fuse")))
    chosen, apart = fold_batch(one, RULES, survey.source.limits), fold_batch(fused, RULES, survey.source.limits)
    assert apart.objects is not None
    both = np.flatnonzero(np.diff(apart.objects) == 2)
    for part, code in ((chosen, 1), (apart.of_objects(), None)):
        assert len(part) == 12
        assert part.n_obs.sum() == total, code
        assert (part.n_used == part.n_obs - part.dropped.sum(axis=1)).all()
    assert chosen.dropped[:, DropReason.OTHER_BAND].sum() == (total + 1) // 2
    np.testing.assert_array_equal(apart.curve[apart.objects[both] + 1], chosen.curve[both])
    assert one.by_band is not None
    assert one.by_band.total() == {"g": (total + 1) // 2, "r": total // 2}
    assert one.by_band.texts()[0].as_py() == ", ".join(
        f"{name}:{count}" for name, count in zip("gr", one.by_band.table[0], strict=True)
    )


def test_a_band_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", banded_table(3))
    check_bands(open_survey(tmp_path, SurveyConfig(bands="r")))
    with pytest.raises(InputError, match=r"expected observations of band z, got g \(.*\), r \(.*choose one of these"):
        check_bands(open_survey(tmp_path, SurveyConfig(bands="z")))


def test_each_band_is_folded_as_if_it_were_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", banded_table(6, ("V", "I", "B")))
    (batch,) = read_all(open_survey(tmp_path, SurveyConfig(bands="fuse")))
    folded = fold_batch(batch, RULES, open_survey(tmp_path).source.limits)
    assert batch.bands is not None
    assert folded.objects is not None
    curves = batch.light_curves
    for i in range(6):
        part = slice(curves.offsets[i], curves.offsets[i + 1])
        for code in range(3):
            which = batch.bands.codes[part] == code
            assert curves.mag_err is not None
            alone = LightCurves(
                np.array([0, which.sum()]), *(one[part][which] for one in (curves.time, curves.mag, curves.mag_err))
            )
            expected = fold(alone, batch.period[i : i + 1], RULES, open_survey(tmp_path).source.limits)
            np.testing.assert_array_equal(folded.curve[folded.objects[i] + code], expected.curve[0])


@pytest.mark.parametrize(
    ("column", "values", "names"),
    [
        ("filtercode", ["zg", "zr"], {"g", "r"}),
        ("filterid", [1, 2], {"g", "r"}),
        ("Filter", ["V", "g"], {"V", "g"}),
        ("phot_filter", ["V", ""], {"V", "unknown"}),
        ("F", ["c", "o"], {"c", "o"}),
    ],
)
def test_bands_of_known_surveys_are_known_by_name(
    tmp_path: Path, column: str, values: list[Any], names: set[str]
) -> None:
    lists = {"time": [[1.0, 2.0]], "mag": [[1.0, 2.0]], "mag_err": [[0.1, 0.1]], column: [values]}
    light_curve = pa.StructArray.from_arrays([pa.array(one) for one in lists.values()], list(lists))
    write(tmp_path / "a.parquet", pa.table({"object_id": ["a"], "period": [1.0], "lightcurve": light_curve}))
    error = fault(open_survey(tmp_path))
    assert all(f"{name} (1)" in error.got for name in names)
    (batch,) = read_all(open_survey(tmp_path, SurveyConfig(band="")))
    assert batch.light_curves.n_obs.tolist() == [2]
    assert batch.by_band is None


def test_a_column_of_another_name_is_named_and_must_be_there(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", banded_table(3, column="colour"))
    read_all(open_survey(tmp_path))
    assert fault(open_survey(tmp_path, SurveyConfig(band="colour"))).kind == "bands"
    with pytest.raises(InputError, match="colours"):
        open_survey(tmp_path, SurveyConfig(band="colours"))


def test_one_band_for_each_object_needs_no_choice(tmp_path: Path) -> None:
    lists = {"time": [[1.0, 2.0], [1.0]], "mag": [[1.0, 2.0], [1.0]], "mag_err": [[0.1, 0.1], [0.1]]}
    lists["band"] = [["g", "g"], ["r"]]  # type: ignore[list-item]
    light_curve = pa.StructArray.from_arrays([pa.array(one) for one in lists.values()], list(lists))
    write(tmp_path / "a.parquet", pa.table({"object_id": [1, 2], "period": [1.0, 1.0], "lightcurve": light_curve}))
    (batch,) = read_all(open_survey(tmp_path))
    assert batch.light_curves.n_obs.tolist() == [2, 1]


def test_nobody_learns_from_mixed_bands(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", banded_table(12))
    for config, message in ((SurveyConfig(), "--band"), (SurveyConfig(bands="fuse"), "one band to learn from")):
        with pytest.raises(InputError, match=message):
            read_labelled([tmp_path], [config])
    assert len(read_labelled([tmp_path], [SurveyConfig(bands="g")]).period) > 0


@pytest.mark.parametrize(
    ("preset", "of_dia_objects", "with_magnitudes"),
    [("rubin-dp1", True, True), ("rubin-dp1", False, True), ("rubin-dp2", True, False), ("rubin-dp2", False, False)],
)
def test_a_look_alike_of_rubin_opens_with_its_preset_alone(
    tmp_path: Path, preset: str, of_dia_objects: bool, with_magnitudes: bool
) -> None:
    write(tmp_path / "a.parquet", rubin_table(5, of_dia_objects=of_dia_objects, with_magnitudes=with_magnitudes))
    survey = open_survey(tmp_path, PRESETS[preset])
    assert survey.source.time_system == "MJD (TAI)"
    assert fault(survey).kind == "bands"
    (batch,) = read_all(open_survey(tmp_path, PRESETS[preset].model_copy(update={"bands": "fuse"})))
    assert batch.by_band is not None
    total = batch.by_band.total()
    assert tuple(sorted(total)) == tuple(sorted(RUBIN_BANDS))
    assert np.isfinite(batch.objects["ra"].to_numpy()).all()
    assert np.isnan(batch.period).all()
    assert batch.left_out is not None
    assert abs(int(batch.left_out[:, 0].sum()) - sum(total.values()) / 10) < 1
    (red,) = read_all(open_survey(tmp_path, PRESETS[preset].model_copy(update={"bands": "r"})))
    stored = pq.read_table(tmp_path / "a.parquet").column(-1).combine_chunks()
    flux, bands, bad = (stored.field(name).flatten() for name in ("psfFlux", "band", "psfFlux_flag"))
    which = (np.array(bands.to_pylist()) == "r") & ~np.array(bad.to_pylist())
    expected = 31.4 - 2.5 * np.log10(flux.to_numpy()[which].astype(float))
    np.testing.assert_allclose(red.light_curves.mag, expected, atol=2e-4)
    assert red.light_curves.mag_err is not None
    np.testing.assert_allclose(red.light_curves.mag_err, 0.0217, atol=1e-4)
