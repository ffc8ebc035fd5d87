"""Units: whatever a file or a person says they are, what is read is days, degrees and magnitudes."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.makers.survey_files import FORMS, fault, make_objects, make_table, read_all, write
from varstar_batch.catalog.columns.voparquet import voparquet_metadata
from varstar_batch.errors import InputError
from varstar_batch.survey.column_types import SchemaMismatchError
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.declared_units import declared_units
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.units import conversion

OBJECTS = make_objects([60, 3, 80], seed=4)
UNITS = {"period": "h", "ra": "rad", "dec": "rad", "time": "s", "mag": "mmag", "mag_err": "mmag"}
FACTORS = {"period": 24.0, "ra": math.pi / 180, "dec": math.pi / 180, "time": 86400.0, "mag": 1e3, "mag_err": 1e3}
RA, DEC = np.array([10.0, 200.0, 359.5]), np.array([-89.0, 0.0, 45.5])


@pytest.mark.parametrize(
    ("text", "role", "value", "expected"),
    [
        ("d", "period", 0.6, 0.6),
        ("days", "period", 0.6, 0.6),
        ("DAYS", "period", 0.6, 0.6),
        ("h", "period", 14.4, 0.6),
        ("hours", "period", 14.4, 0.6),
        ("min", "period", 864.0, 0.6),
        ("s", "period", 51840.0, 0.6),
        ("yr", "period", 2.0, 730.5),
        ("1/d", "period", 1 / 0.6, 0.6),
        ("d-1", "period", 1 / 0.6, 0.6),
        ("day**-1", "period", 1 / 0.6, 0.6),
        ("c/d", "period", 1 / 0.6, 0.6),
        ("uHz", "period", 1e6 / 51840.0, 0.6),
        ("rad/d", "period", 2 * math.pi / 0.6, 0.6),
        ("[d]", "period", math.log10(0.6), 0.6),
        ("dex(d)", "period", math.log10(0.6), 0.6),
        ("deg", "ra", 80.0, 80.0),
        ("degrees", "ra", 80.0, 80.0),
        ("rad", "ra", math.radians(80.0), 80.0),
        ("hourangle", "ra", 80.0 / 15, 80.0),
        ("h", "ra", 80.0 / 15, 80.0),
        ("arcsec", "dec", -69.0 * 3600, -69.0),
        ("mas", "dec", -69.0 * 3.6e6, -69.0),
        ("s", "time", 86400.0, 1.0),
        ("BJD - 2457000, days", "time", 1.0, 1.0),
        ("mag", "mag", 14.5, 14.5),
        ("mag(AB)", "mag", 14.5, 14.5),
        ("mmag", "mag", 14500.0, 14.5),
        ("Jy", "mag", 3631e-8, 20.0),
        ("nJy", "mag", 36.31, 27.5),
        ("uJy", "mag", 3631e-2, 20.0),
        ("nmgy", "mag", 10.0, 20.0),
        ("electron/s", "mag", 100.0, -5.0),
        ("e-/s", "mag", 100.0, -5.0),
    ],
)
def test_every_spelling_gives_the_right_value(text: str, role: str, value: float, expected: float) -> None:
    np.testing.assert_allclose(conversion(text, role, "x", "x_unit").apply(np.array([value])), [expected], rtol=2e-5)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("bogus", "period"),
        ("km", "period"),
        ("h", "dec"),
        ("d", "ra"),
        ("mag", "time"),
        ("deg", "mag"),
        ("W", "mag"),
    ],
)
def test_unknown_and_impossible_units_are_refused(text: str, role: str) -> None:
    with pytest.raises(SchemaMismatchError, match="such as") as caught:
        conversion(text, role, "x", "x_unit")
    assert repr(text) in caught.value.got


def scaled(form: str, units: dict[str, str], *, where: str) -> pa.Table:
    """Return the objects in other units, declared in the metadata of fields, of VOParquet or of astropy's YAML."""
    table = make_table(OBJECTS, form, ra=pa.array(RA), dec=pa.array(DEC))
    columns = {}
    for name in table.column_names:
        columns[name] = _times(table[name].combine_chunks(), name, units)
    table = pa.table(columns)
    if where == "fields":
        return table.cast(pa.schema([_with_unit(field, units) for field in table.schema]))
    top = {name: unit for name, unit in units.items() if name in table.column_names}
    if where == "votable":
        fields = pa.schema([pa.field(name, pa.float64(), metadata={"unit": unit}) for name, unit in top.items()])
        return table.replace_schema_metadata(voparquet_metadata(fields, table="t", description="x"))
    lines = [f"- {{name: {name}, unit: {unit}, datatype: float64}}" for name, unit in top.items()]
    return table.replace_schema_metadata({"table_meta_yaml": "\n".join(["datatype:", *lines])})


def _times(array: pa.Array, name: str, units: dict[str, str]) -> pa.Array:
    kind = array.type
    if pa.types.is_struct(kind):
        parts = [_times(part, field.name, units) for field, part in zip(kind, array.flatten(), strict=True)]
        return pa.StructArray.from_arrays(parts, [field.name for field in kind])
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(array.offsets, _times(array.values, name, units))
    if name not in units:
        return array
    wide = np.float64 if name == "time" else array.to_numpy().dtype
    return pa.array((array.to_numpy().astype(np.float64) * FACTORS[name]).astype(wide))


def _with_unit(field: pa.Field, units: dict[str, str]) -> pa.Field:
    kind = field.type
    if pa.types.is_struct(kind):
        return field.with_type(pa.struct([_with_unit(one, units) for one in kind]))
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return field.with_type(pa.list_(pa.struct([_with_unit(one, units) for one in kind.value_type])))
    return field.with_metadata({"unit": units[field.name]}) if field.name in units else field


@pytest.mark.parametrize("form", FORMS)
def test_units_of_fields_in_every_form(tmp_path: Path, form: str) -> None:
    write(tmp_path / "a.parquet", scaled(form, UNITS, where="fields"))
    _assert_read(tmp_path, SurveyConfig())


@pytest.mark.parametrize("where", ["votable", "yaml"])
@pytest.mark.parametrize("form", ["lists", "long"])
def test_units_of_voparquet_and_of_astropys_parquet(tmp_path: Path, form: str, where: str) -> None:
    write(tmp_path / "a.parquet", scaled(form, UNITS, where=where))
    _assert_read(tmp_path, SurveyConfig())


@pytest.mark.parametrize("form", FORMS)
def test_units_that_a_person_says(tmp_path: Path, form: str) -> None:
    units = {"period": "h", "ra": "rad", "dec": "rad", "time": "s", "mag": "mmag", "mag_err": "mmag"}
    write(tmp_path / "a.parquet", scaled(form, units, where="fields").cast(scaled(form, {}, where="fields").schema))
    config = SurveyConfig(period_unit="h", position_unit="rad", time_unit="s", mag_unit="mmag")
    _assert_read(tmp_path, config)


def _assert_read(folder: Path, config: SurveyConfig) -> None:
    survey = open_survey(folder, config)
    pickle.loads(pickle.dumps(survey.source))
    (batch,) = read_all(survey)
    np.testing.assert_allclose(batch.period, OBJECTS.period, rtol=1e-12)
    np.testing.assert_allclose(batch.objects["ra"].to_numpy(), RA, rtol=1e-12)
    np.testing.assert_allclose(batch.objects["dec"].to_numpy(), DEC, rtol=1e-12, atol=1e-12)
    for k, values in enumerate((batch.light_curves.time, batch.light_curves.mag, batch.light_curves.mag_err)):
        assert values is not None
        expected = [value for one in OBJECTS.field(k) for value in one]
        np.testing.assert_allclose(values, expected, rtol=1e-12 if k == 0 else 1e-6)
    assert batch.light_curves.malformed is None, "periods of rows are compared in one unit"


def test_fluxes_become_magnitudes_and_negative_ones_are_none(tmp_path: Path) -> None:
    flux, error = [3631.0, 36.31, 0.0, -50.0, math.nan], [36.31, 3.631, 1.0, 1.0, 1.0]
    table = pa.table(
        {
            "object_id": ["a"] * 5,
            "period": [0.5] * 5,
            "time": np.arange(5.0),
            "psfFlux": flux,
            "psfFluxErr": error,
        }
    )
    fields = [pa.field(field.name, field.type) for field in table.schema]
    fields[3], fields[4] = (one.with_metadata({"unit": "nJy"}) for one in fields[3:])
    write(tmp_path / "a.parquet", table.cast(pa.schema(fields)))
    survey = open_survey(tmp_path, SurveyConfig(mag="psfFlux", mag_err="psfFluxErr"))
    (batch,) = read_all(survey)
    curves = batch.light_curves
    np.testing.assert_allclose(curves.mag, [22.5, 27.5, 99.99, 99.99, math.nan], rtol=1e-5)
    assert curves.mag_err is not None
    np.testing.assert_allclose(curves.mag_err[:4], [0.010857, 0.10857, 99.99, 99.99], rtol=1e-4)


def test_partitions_of_different_units_are_refused_naming_both(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", scaled("nested", {"period": "h"}, where="fields"))
    write(tmp_path / "b.parquet", scaled("nested", {}, where="fields"))
    with pytest.raises(InputError, match=r"b\.parquet: expected period in h, as in a\.parquet, got none declared"):
        open_survey(tmp_path)


def test_of_many_partitions_a_foreign_one_fails_when_it_is_read(tmp_path: Path) -> None:
    for number in range(40):
        table = scaled("nested", {}, where="fields").replace_schema_metadata({"varstar.time_system": "JD"})
        foreign = table.replace_schema_metadata({"varstar.time_system": "MJD"})
        write(tmp_path / f"{number:02d}.parquet", foreign if number == 33 else table)
    survey = open_survey(tmp_path)
    error = fault(survey, 33)
    assert (error.kind, error.got) == ("schema", "MJD")
    assert "00.parquet" in error.expected


@pytest.mark.parametrize("other", ["MJD", "HJD", None])
def test_partitions_of_different_time_systems_are_refused_naming_both(tmp_path: Path, other: str | None) -> None:
    table = make_table(OBJECTS, "nested")
    write(tmp_path / "a.parquet", table.replace_schema_metadata({"varstar.time_system": "JD"}))
    write(tmp_path / "b.parquet", table.replace_schema_metadata({"varstar.time_system": other} if other else None))
    with pytest.raises(InputError, match=r"b\.parquet: expected time system JD, as in a\.parquet"):
        open_survey(tmp_path)
    if other is None:
        assert open_survey(tmp_path, SurveyConfig(time_system="JD")).source.time_system == "JD"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("system", "fits"), [("JD", True), ("HJD", True), ("MJD", False), ("HJD-2450000", False)])
def test_times_that_the_declared_system_cannot_have(tmp_path: Path, form: str, system: str, fits: bool) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, form))
    if fits:
        assert open_survey(tmp_path, SurveyConfig(time_system=system)).source.time_system == system
        return
    with pytest.raises(InputError, match=rf"expected times that {system} can have.*JD could be"):
        open_survey(tmp_path, SurveyConfig(time_system=system))


def test_partitions_a_century_apart_are_refused_where_nothing_says_their_system(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "lists")
    write(tmp_path / "a.parquet", table)
    place = table.column_names.index("time")
    for path, days in (("b.parquet", 10.0), ("c.parquet", -2400000.5)):
        times = pa.array([None if one is None else [t + days for t in one] for one in table["time"].to_pylist()])
        write(tmp_path / path, table.set_column(place, "time", times))
        if path == "b.parquet":
            assert open_survey(tmp_path).source.time_system is None
    with pytest.raises(InputError, match=r"times of one system in all files.*declare it"):
        open_survey(tmp_path)


def test_what_a_file_says_and_a_person_says_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", scaled("nested", {"period": "h"}, where="fields"))
    with pytest.raises(InputError, match="one unit of 'period'; the file says 'h', got 'min' in the configuration"):
        open_survey(tmp_path, SurveyConfig(period_unit="min"))
    assert open_survey(tmp_path, SurveyConfig(period_unit="hours")).source.conversions["period"].factor == 1 / 24
    write(tmp_path / "a.parquet", scaled("nested", {"period": "bogus"}, where="fields"))
    with pytest.raises(InputError, match=r"got 'bogus'.*survey\.period_unit"):
        open_survey(tmp_path)
    assert open_survey(tmp_path, SurveyConfig(period_unit="h")).source.conversions["period"].factor == 1 / 24


def test_what_is_no_declaration_is_none() -> None:
    fields = [
        pa.field("a", pa.float64(), metadata={"unit": "---"}),
        pa.field("b", pa.float64(), metadata={"units": "h"}),
    ]
    hostile = {"IVOA.VOTable-Parquet.content": b'<!DOCTYPE x [<!ENTITY a "b">]><VOTABLE/>', "table_meta_yaml": b"{[:"}
    assert declared_units(pa.schema(fields, hostile)) == {"b": "h"}


@pytest.mark.parametrize(
    "labels", [[1, 2, None], [1.5, None, 2.0], [True, False, None], [["RR"], ["M"], []], [b"RR", b"\xff", None]]
)
def test_labels_of_any_type_never_stop_a_survey(tmp_path: Path, labels: list[object]) -> None:
    write(tmp_path / "a.parquet", make_table(OBJECTS, "nested", **{"class": pa.array(labels)}))
    (batch,) = read_all(open_survey(tmp_path))
    read = batch.objects["class"].to_pylist()
    assert batch.objects["class"].type == pa.large_string()
    if not isinstance(labels[0], list):
        assert [one is None for one in read] == [one is None for one in labels]
    else:
        assert read == [None] * 3


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.binary())])
def test_labels_that_are_bytes_are_their_texts(tmp_path: Path, kind: pa.DataType) -> None:
    labels = pa.array([b"RR", b"\xff", None], kind)
    write(tmp_path / "a.parquet", make_table(OBJECTS, "nested", **{"class": labels}))
    (batch,) = read_all(open_survey(tmp_path))
    assert batch.objects["class"].to_pylist() == ["RR", "\\xff", None]
