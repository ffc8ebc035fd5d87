"""Opening surveys: layouts, forms, presets, and one clear line for each thing that can be wrong."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tests.makers.survey_files import FORMS, make_objects, make_table, write
from varstar_batch.errors import InputError
from varstar_batch.light_curves.rules import Limits
from varstar_batch.light_curves.times import parse_time_system
from varstar_batch.survey.columns import PRESETS, TIME_SYSTEM_KEY, SurveyConfig
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches

OBJECTS = make_objects([3, 0, 2])


def refusal(url: Path | str, config: SurveyConfig | None = None) -> str:
    """Return the one line with which a survey is refused."""
    with pytest.raises(InputError) as caught:
        open_survey(url, config)
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text
    assert caught.value.fix
    return text


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_told_apart_by_the_schema(tmp_path: Path, form: str) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, form))
    survey = open_survey(tmp_path)
    assert survey.source.form == form
    assert survey.source.layout == "directory"
    assert survey.source.object_id_type == "large_string"
    assert survey.source.columns.mag_err == "mag_err"
    assert survey.source.columns.ra is None
    assert survey.hats_properties is None


def test_a_source_is_small_and_survives_pickling(tmp_path: Path) -> None:
    for i in range(50):
        write(tmp_path / f"{i}.parquet", make_table(OBJECTS, "nested"))
    survey = open_survey(tmp_path)
    assert len(survey.partitions) == 50
    assert pickle.loads(pickle.dumps(survey)) == survey
    assert len(pickle.dumps(survey.source)) < 2000


def test_partitions_are_listed_below_folders_without_hidden_names(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "nested")
    for key in ("b.parquet", "a/x.parquet", "a/y.parquet", "_metadata.parquet", ".x.parquet", "_old/z.parquet"):
        write(tmp_path / key, table)
    (tmp_path / "notes.txt").write_text("not Parquet")
    survey = open_survey(tmp_path)
    assert [partition.key for partition in survey.partitions] == ["a/x.parquet", "a/y.parquet", "b.parquet"]
    assert all(p.size == (tmp_path / p.key).stat().st_size and p.version for p in survey.partitions)


def test_a_partition_written_again_has_another_version(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "nested"))
    (before,) = open_survey(tmp_path).partitions
    write(tmp_path / "a.parquet", make_table(make_objects([3, 0, 2], seed=1), "nested"))
    (after,) = open_survey(tmp_path).partitions
    assert before.key == after.key
    assert before.version != after.version


def test_a_single_file_is_a_survey(tmp_path: Path) -> None:
    file = write(tmp_path / "stars.parquet", make_table(OBJECTS, "nested"))
    write(tmp_path / "other.parquet", make_table(OBJECTS, "nested"))
    survey = open_survey(file)
    assert [partition.key for partition in survey.partitions] == ["stars.parquet"]
    assert survey.partitions == (open_survey(tmp_path).partitions[1],)
    assert survey.source.url == str(tmp_path)


def test_any_fsspec_filesystem_will_do() -> None:
    memory = fsspec.filesystem("memory")
    with memory.open("/test-surveys/a.parquet", "wb") as file:
        pq.write_table(make_table(OBJECTS, "nested"), file)
    survey = open_survey("memory://test-surveys")
    assert survey.source.url == "memory:///test-surveys"
    assert [partition.key for partition in survey.partitions] == ["a.parquet"]
    memory.rm("/test-surveys", recursive=True)


def test_the_schema_comes_from_the_first_file_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing else")
    (tmp_path / "b.parquet").write_bytes(b"")
    write(tmp_path / "c.parquet", make_table(OBJECTS, "structs"))
    survey = open_survey(tmp_path)
    assert survey.source.form == "structs"
    assert len(survey.partitions) == 3


def test_nothing_there(tmp_path: Path) -> None:
    text = refusal(tmp_path / "nowhere")
    assert text.startswith(str(tmp_path / "nowhere"))
    assert "nothing there" in text
    assert "check the path" in text


def test_a_folder_without_parquet(tmp_path: Path) -> None:
    (tmp_path / "stars.csv").write_text("a,b")
    text = refusal(tmp_path)
    assert text.startswith(str(tmp_path))
    assert "none among stars.csv" in text
    assert "give the folder that holds the survey's Parquet files" in text


def test_no_file_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"not Parquet at all, but long enough")
    text = refusal(tmp_path)
    assert "none of 1" in text
    assert str(tmp_path / "a.parquet") in text
    assert "write the files again" in text


def test_a_missing_column_names_what_is_there_and_the_nearest(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "nested").rename_columns(["object_id", "Periods", "lightcurve"])
    write(tmp_path / "a.parquet", table)
    text = refusal(tmp_path)
    assert text.startswith(str(tmp_path / "a.parquet"))
    assert "a column 'period'" in text
    assert "object_id, Periods, lightcurve" in text
    assert "did you mean 'Periods'? say period = 'Periods'" in text
    assert open_survey(tmp_path, SurveyConfig(period="Periods")).source.columns.period == "Periods"


def test_a_missing_column_with_nothing_like_it(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"x": [1], "y": [2]}))
    text = refusal(tmp_path)
    assert "expected a column 'lightcurve', got columns x, y; name the column that holds it (lightcurve = ...)" in text


def test_many_columns_are_cut_short_in_the_message(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({f"column{i}": [1] for i in range(40)}))
    text = refusal(tmp_path)
    assert "(40 in all)" in text
    assert len(text) < 600


def test_a_light_curve_without_a_field(tmp_path: Path) -> None:
    lists = pa.array([[1.0]], pa.list_(pa.float64()))
    curve = pa.StructArray.from_arrays([lists, lists], ["time", "magn"])
    write(tmp_path / "a.parquet", pa.table({"object_id": ["a"], "period": [1.0], "lightcurve": curve}))
    text = refusal(tmp_path)
    assert "a column 'mag', got columns time, magn; did you mean 'magn'?" in text


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("period", pa.array(["0.5"]), "numbers in column 'period', got string"),
        ("object_id", pa.array([0.5]), "integers or texts in column 'object_id', got double"),
        ("ra", pa.array(["12:00:00"]), "numbers in column 'ra', got string"),
        ("lightcurve", pa.array([1.5]), "a struct of lists, or a list of structs, in column 'lightcurve', got double"),
        ("lightcurve", pa.array([{"time": 1.0, "mag": 2.0}]), "lists of float64 in 'time', got double"),
        (
            "lightcurve",
            pa.array(
                [{"time": [1.0], "mag": [2.0]}],
                pa.struct([("time", pa.list_(pa.float32())), ("mag", pa.list_(pa.float32()))]),
            ),
            "lists of float64 in 'time', got list<element: float> (float32 is spaced 0.25 d at JD 2458515)",
        ),
        (
            "lightcurve",
            pa.array([{"time": [1.0], "mag": ["bright"]}]),
            "lists of float or double in 'mag', got list<element: string>",
        ),
    ],
)
def test_a_mistyped_column(tmp_path: Path, name: str, column: pa.Array, expected: str) -> None:
    good = {
        "object_id": pa.array(["a"]),
        "period": pa.array([1.0]),
        "lightcurve": pa.array([{"time": [1.0], "mag": [2.0]}]),
    }
    write(tmp_path / "a.parquet", pa.table(good))
    assert open_survey(tmp_path).source.form == "nested"
    write(tmp_path / "a.parquet", pa.table(good | {name: column}))
    text = refusal(tmp_path)
    assert text.startswith(str(tmp_path / "a.parquet"))
    assert expected in text
    assert "= ...)" in text


def test_a_mistyped_column_in_the_long_form(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "long")
    write(tmp_path / "a.parquet", table.set_column(2, "time", table["time"].cast(pa.float32())))
    assert "float64 in 'time', got float (float32 is spaced 0.25 d at JD 2458515)" in refusal(tmp_path)


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "nested")
    write(tmp_path / "a.parquet", table.append_column("period", table["period"]))
    text = refusal(tmp_path)
    assert "one column 'period', got 2 of that name" in text
    assert "rename or remove the others" in text


def test_a_survey_without_errors_is_accepted(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "long").drop_columns(["mag_err"]))
    assert open_survey(tmp_path).source.columns.mag_err is None


def test_errors_of_another_name_are_not_overlooked(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "long").rename_columns(["object_id", "period", "time", "mag", "magerr"])
    write(tmp_path / "a.parquet", table)
    text = refusal(tmp_path)
    assert "say mag_err = 'magerr'" in text
    assert "or mag_err = '' if there are no errors" in text
    assert open_survey(tmp_path, SurveyConfig(mag_err="magerr")).source.columns.mag_err == "magerr"
    assert open_survey(tmp_path, SurveyConfig(mag_err="")).source.columns.mag_err is None


def test_errors_that_somebody_named_must_be_there(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "long").drop_columns(["mag_err"]))
    assert "a column 'sigma'" in refusal(tmp_path, SurveyConfig(mag_err="sigma"))


def test_the_time_system_comes_from_the_metadata(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "nested").replace_schema_metadata({TIME_SYSTEM_KEY: "HJD - 0"})
    write(tmp_path / "a.parquet", table)
    source = open_survey(tmp_path).source
    assert source.time_system == "HJD - 0"
    assert (source.limits.time_min, source.limits.time_max) == parse_time_system("HJD-0").limits
    assert open_survey(tmp_path, SurveyConfig(time_system="HJD-0")).source == source


def test_a_time_system_that_contradicts_the_metadata_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "nested").replace_schema_metadata({TIME_SYSTEM_KEY: "MJD"}))
    text = refusal(tmp_path, SurveyConfig(time_system="HJD"))
    assert "'MJD'" in text
    assert "'HJD'" in text
    assert "leave time_system out" in text


def test_a_time_system_is_never_guessed(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "nested"))
    source = open_survey(tmp_path).source
    assert source.time_system is None
    assert source.limits == Limits()
    free = open_survey(tmp_path, SurveyConfig(time_system="days, internal epoch")).source
    assert free.time_system == "days, internal epoch"
    assert free.limits.time_max == math.inf


def test_limits_of_magnitudes_are_the_surveys(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "nested"))
    limits = open_survey(tmp_path, SurveyConfig(mag_min=-5, mag_max=24.5)).source.limits
    assert (limits.mag_min, limits.mag_max) == (-5, 24.5)


@pytest.mark.parametrize(
    "changes",
    [{"mag_min": 5, "mag_max": 5}, {"mag_max": math.nan}, {"time": "mag"}, {"object_id": ""}, {"magnitude": "mag"}],
)
def test_a_configuration_is_checked(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SurveyConfig.model_validate(changes)


def test_presets_have_known_time_systems_and_canonical_has_none() -> None:
    assert set(PRESETS) == {"canonical", "asas-sn", "ztf", "ogle", "gaia", "rubin-dp1", "rubin-dp2"}
    assert PRESETS["canonical"] == SurveyConfig()
    for name, config in PRESETS.items():
        if name != "canonical":
            assert config.time_system is not None
            assert parse_time_system(config.time_system).jd_offset is not None
    assert SurveyConfig.model_validate({"class": "type"}).class_ == "type"


@pytest.mark.parametrize("name", ["asas-sn", "ztf", "ogle", "gaia"])
def test_a_preset_reads_a_survey_with_its_names(tmp_path: Path, name: str) -> None:
    config = PRESETS[name]
    names = {"time": config.time, "mag": config.mag, "mag_err": config.mag_err}
    values = {column: [2457000.5 if role == "time" and name == "asas-sn" else 1.5] for role, column in names.items()}
    curve = pa.array([{column: value for column, value in values.items() if column}])
    ids = {config.object_id: pa.array([10**18]), config.period: pa.array([0.5]), config.ra: pa.array([10.0])}
    write(tmp_path / "a.parquet", pa.table(ids | {"lightcurve": curve}))
    source = open_survey(tmp_path, config).source
    assert source.object_id_type == "int64"
    assert (source.columns.ra, source.columns.dec) == (config.ra, None)
    assert source.columns.mag_err == config.mag_err


def write_hats(folder: Path, keys: tuple[str, ...], properties: str = "") -> Path:
    """Write a minimal HATS catalog."""
    objects = OBJECTS
    for key in keys:
        table = make_table(objects, "nested", RA=pa.array([1.0, 2.0, 3.0]), DEC=pa.array([1.0, 2.0, 3.0]))
        table = table.append_column("_healpix_29", pa.array([1, 2, 3]))
        write(folder / "dataset" / key, table)
    write(folder / "dataset" / "_metadata", table)
    write(folder / "dataset" / "data_thumbnail.parquet", table)
    (folder / "hats.properties").write_text(
        "#HATS catalog\nobs_collection=stars\ndataproduct_type=object\nhats_nrows=3\n"
        "hats_col_ra=RA\nhats_col_dec=DEC\nhats_creation_date=2026-01-01T00\\:00UTC\n" + properties
    )
    return folder


PIXELS = ("Norder=1/Dir=0/Npix=17.parquet", "Norder=2/Dir=0/Npix=3.parquet")


def test_a_hats_catalog(tmp_path: Path) -> None:
    survey = open_survey(write_hats(tmp_path / "stars", PIXELS))
    assert survey.source.layout == "hats"
    assert [partition.key for partition in survey.partitions] == [f"dataset/{key}" for key in PIXELS]
    assert (survey.source.columns.ra, survey.source.columns.dec) == ("RA", "DEC")
    assert survey.source.columns.healpix == "_healpix_29"
    assert survey.hats_properties is not None
    assert survey.hats_properties["hats_creation_date"] == "2026-01-01T00:00UTC"


def test_a_hats_catalog_with_folders_for_pixels(tmp_path: Path) -> None:
    keys = ("Norder=0/Dir=0/Npix=4/part0.parquet", "Norder=0/Dir=0/Npix=4/part1.parquet")
    survey = open_survey(write_hats(tmp_path, (*keys, "Norder=0/Dir=0/Npix=4/_ignored.parquet")))
    assert [partition.key for partition in survey.partitions] == [f"dataset/{key}" for key in keys]


def test_a_pixel_whose_file_got_lost_is_a_partition_still(tmp_path: Path) -> None:
    write_hats(tmp_path, PIXELS)
    (tmp_path / "partition_info.csv").write_text("Norder,Npix\n1,17\n2,3\n3,20001\n")
    survey = open_survey(tmp_path)
    lost = [partition for partition in survey.partitions if partition.size == 0]
    assert [partition.key for partition in lost] == ["dataset/Norder=3/Dir=20000/Npix=20001.parquet"]
    assert len(survey.partitions) == 3


def test_a_hats_collection_leads_to_its_main_catalog(tmp_path: Path) -> None:
    write_hats(tmp_path / "main", PIXELS)
    write_hats(tmp_path / "margin", PIXELS, "dataproduct_type=margin\n")
    collection = tmp_path / "collection.properties"
    collection.write_text("obs_collection=all\nhats_primary_table_url=main\nall_margins=margin\n")
    survey = open_survey(tmp_path)
    assert survey.source.url == str(tmp_path / "main")
    assert len(survey.partitions) == 2
    assert "of type 'margin'" in refusal(tmp_path / "margin")
    collection.write_text("obs_collection=all\nhats_primary_table_url=elsewhere\n")
    assert "correct hats_primary_table_url" in refusal(tmp_path)
    collection.write_text("obs_collection=all\n")
    assert "expected hats_primary_table_url, got none" in refusal(tmp_path)


def test_an_old_hats_catalog(tmp_path: Path) -> None:
    write_hats(tmp_path, PIXELS)
    (tmp_path / "hats.properties").rename(tmp_path / "properties")
    assert open_survey(tmp_path).source.layout == "hats"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_collection_that_lsdb_wrote(tmp_path: Path) -> None:
    import lsdb
    import nested_pandas

    n = 300
    rng = np.random.default_rng(0)
    objects = make_objects(rng.integers(0, 9, n).tolist())
    columns = {"ra": pa.array(rng.random(n) * 360), "dec": pa.array(rng.random(n) * 180 - 90)}
    write(tmp_path / "plain" / "a.parquet", make_table(objects, "nested", **columns))
    frame = nested_pandas.read_parquet(tmp_path / "plain" / "a.parquet")
    catalog = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", catalog_name="stars", partition_rows=40)
    catalog.write_catalog(tmp_path / "hats", progress_bar=False)
    survey = open_survey(tmp_path / "hats")
    assert survey.source.layout == "hats"
    assert survey.source.form == "nested"
    assert len(survey.partitions) > 3
    found = {
        name: curves.time[curves.offsets[i] : curves.offsets[i + 1]].tolist()
        for partition in survey.partitions
        for batch in read_batches(survey.source, partition, None, 100)
        for curves in [batch.light_curves]
        for i, name in enumerate(batch.objects["object_id"].to_pylist())
    }
    assert found == dict(zip(objects.object_id, objects.field(0), strict=True))


def test_hats_properties_that_hats_itself_wrote(tmp_path: Path) -> None:
    from hats.catalog.dataset.table_properties import TableProperties

    write_hats(tmp_path, PIXELS)
    TableProperties(
        catalog_name="it's: a #name", catalog_type="object", total_rows=3, ra_column="RA", dec_column="DEC"
    ).to_properties_file(tmp_path)
    survey = open_survey(tmp_path)
    assert survey.hats_properties is not None
    assert survey.hats_properties["obs_collection"] == "it's: a #name"
    assert survey.source.columns.dec == "DEC"


def test_damaged_hats_files_are_named(tmp_path: Path) -> None:
    write_hats(tmp_path, PIXELS)
    (tmp_path / "partition_info.csv").write_text("order,pixel\n1,17\n")
    assert re.search(r"partition_info.csv: expected columns Norder and Npix", refusal(tmp_path))
    (tmp_path / "partition_info.csv").unlink()
    (tmp_path / "hats.properties").write_bytes(b"\xff\xfe\x00")
    assert re.search(r"hats.properties: expected lines of key=value", refusal(tmp_path))


def test_a_hats_catalog_without_pixels(tmp_path: Path) -> None:
    write_hats(tmp_path, PIXELS)
    for key in PIXELS:
        (tmp_path / "dataset" / key).unlink()
    assert "dataset/Norder=*/Dir=*/Npix=*.parquet" in refusal(tmp_path)
