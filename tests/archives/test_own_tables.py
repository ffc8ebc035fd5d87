"""Tables of somebody's own: vectors, no names, periods and classes beside the observations."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from tests.makers.archive_files import ERRORS, HJD, MAGS, PLAIN_TABLE
from varstar_batch.archives.content import stem_of
from varstar_batch.cli.app import main
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.options import ArchiveOptions


def one_file(folder: Path, content: bytes, name: str = "star.dat") -> Path:
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder


def ingested(folder: Path, objects: Path | None = None, **options: Any) -> list[dict[str, Any]]:
    out = folder.with_name(f"out-{len(list(folder.parent.iterdir()))}")
    ingest_archive(folder, objects, out, ArchiveOptions(**{"format": "table", "time_system": "HJD"} | options))
    rows: list[dict[str, Any]] = pq.read_table(out / "part-00000.parquet").to_pylist()
    return rows


def with_apertures(kind: str) -> bytes:
    """Three observations with magnitudes in two apertures, of which the second is right."""
    mags = np.stack([np.zeros(3), MAGS], axis=1)
    table = Table({"time": HJD, "mag": mags, "mag_err": np.stack([np.ones(3), ERRORS], axis=1)})
    if kind == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({name: table[name].tolist() for name in table.colnames}), sink)
        return bytes(sink.getvalue())
    text, binary = io.StringIO(), io.BytesIO()
    if kind == "ascii.ecsv":
        table.write(text, format=kind)
        return text.getvalue().encode()
    table.write(binary, format=kind)
    return binary.getvalue()


@pytest.mark.parametrize("kind", ["fits", "votable", "ascii.ecsv", "parquet"])
def test_apertures_are_chosen_and_never_become_observations(tmp_path: Path, kind: str) -> None:
    folder = one_file(tmp_path / "in", with_apertures(kind))
    (row,) = ingested(folder, aperture=1)
    assert row["lightcurve"]["time"] == HJD
    np.testing.assert_allclose(row["lightcurve"]["mag"], MAGS, rtol=1e-6)
    np.testing.assert_allclose(row["lightcurve"]["mag_err"], ERRORS, rtol=1e-6)
    with pytest.raises(InputError, match=r"one value of mag for each observation, or --aperture.*got 2"):
        ingested(folder)
    with pytest.raises(InputError, match="got 2 and --aperture 2"):
        ingested(folder, aperture=2)


def test_a_flux_in_apertures_of_a_known_format(tmp_path: Path) -> None:
    columns = [fits.Column(name, "2E", array=np.ones((3, 2))) for name in ("PDCSAP_FLUX", "PDCSAP_FLUX_ERR")]
    table = fits.BinTableHDU.from_columns([fits.Column("TIME", "D", array=np.array(HJD) - 2457000), *columns])
    table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0})
    sink = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(sink)
    folder = one_file(tmp_path / "in", sink.getvalue())
    with pytest.raises(InputError, match="--aperture"):
        ingested(folder, format="auto", time_system=None)
    (row,) = ingested(folder, format="auto", time_system=None, aperture=0)
    assert len(row["lightcurve"]["time"]) == 3


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (b"\n".join(PLAIN_TABLE.splitlines()[1:]), "time,mag,err"),
        (b"# somebody's\n" + b"\n".join(PLAIN_TABLE.splitlines()[1:]).replace(b",", b"  "), "time,mag,err"),
        (b"\n".join(b"7," + line for line in PLAIN_TABLE.splitlines()[1:]), "quality,time,mag,mag_err"),
        (PLAIN_TABLE.replace(b"mag", b"V"), "time,mag,sigma"),
    ],
)
def test_columns_without_names(tmp_path: Path, content: bytes, columns: str) -> None:
    (row,) = ingested(one_file(tmp_path / "in", content), column_names=tuple(columns.split(",")))
    assert row["object_id"] == "star"
    assert row["lightcurve"]["time"] == HJD
    np.testing.assert_allclose(row["lightcurve"]["mag_err"], ERRORS, rtol=1e-6)


def test_two_columns_without_names(tmp_path: Path) -> None:
    content = b"\n".join(line.rpartition(b",")[0] for line in PLAIN_TABLE.splitlines()[1:])
    folder = one_file(tmp_path / "in", content)
    (row,) = ingested(folder, column_names=("time", "mag"))
    np.testing.assert_allclose(row["lightcurve"]["mag"], MAGS, rtol=1e-6)
    assert np.isnan(row["lightcurve"]["mag_err"]).all()
    with pytest.raises(InputError, match=r"2 columns without names .say --columns time,mag,err"):
        ingested(folder)
    with pytest.raises(InputError, match="expected names with time"):
        ingested(folder, column_names=("mag", "mag_err"))
    with pytest.raises(InputError, match="--format table"):
        ingested(folder, column_names=("time", "mag"), format="ogle", time_system=None)


def flat(**columns: list[Any]) -> bytes:
    """One row an observation, three of star a and three of b, with what is the object's beside them."""
    table = {"Object_ID": ["a"] * 3 + ["b"] * 3, "time": HJD * 2, "MAG": MAGS * 2, "mag_err": ERRORS * 2} | columns
    lines = [
        ",".join(table),
        *(",".join("" if v is None else str(v) for v in row) for row in zip(*table.values(), strict=True)),
    ]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_flat_table_brings_its_periods_and_classes(tmp_path: Path, is_parquet: bool) -> None:
    beside = {"Period": [0.5, None, 0.5, None, None, None], "class": ["RR"] * 3 + [None, "ECL", "ECL"]}
    content, name = flat(**beside, ra=[1.5] * 3 + [2.5] * 3, dec=[-1.0] * 6), "flat.csv"
    if is_parquet:
        sink = io.BytesIO()
        import pyarrow.csv as pv

        pq.write_table(pv.read_csv(io.BytesIO(content)), sink)
        content, name = sink.getvalue(), "flat.parquet"
    rows = ingested(one_file(tmp_path / "in", content, name))
    assert [row["object_id"] for row in rows] == ["a", "b"]
    assert [row["period"] for row in rows] == [0.5, None]
    assert [row["class"] for row in rows] == ["RR", "ECL"]
    assert [row["ra"] for row in rows] == [1.5, 2.5]
    assert [len(row["lightcurve"]["time"]) for row in rows] == [3, 3]


def test_rows_of_arrays_bring_theirs_too(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    lists = {"time": [HJD, []], "mag": [MAGS, []], "mag_err": [ERRORS, []]}
    pq.write_table(pa.table({"object_id": ["a", "b"], "period": [0.5, 1.5], "class": ["RR", "M"]} | lists), sink)
    rows = ingested(one_file(tmp_path / "in", bytes(sink.getvalue()), "x.parquet"))
    assert [(row["object_id"], row["period"], row["class"]) for row in rows] == [("a", 0.5, "RR"), ("b", 1.5, "M")]


def test_a_table_of_objects_wins(tmp_path: Path) -> None:
    (tmp_path / "objects.csv").write_text("object_id,period\na,0.25\nb,0.75\n")
    rows = ingested(one_file(tmp_path / "in", flat(period=[0.5] * 6), "x.csv"), tmp_path / "objects.csv")
    assert [row["period"] for row in rows] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/star.csv", "star"),
        ("star.csv.gz", "star"),
        ("star.FITS", "star"),
        ("lm0627m14174.time", "lm0627m14174"),
        ("OGLE-LMC-CEP-0001.dat", "OGLE-LMC-CEP-0001"),
        ("1.3444.614.mjd", "1.3444.614"),
        ("J1234.5-6789.txt.gz", "J1234.5-6789"),
        ("V1.5", "V1.5"),
    ],
)
def test_an_identifier_keeps_no_ending(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_the_command_takes_them(tmp_path: Path) -> None:
    folder = one_file(tmp_path / "in", b"\n".join(PLAIN_TABLE.splitlines()[1:]))
    words = ["ingest", str(folder), str(tmp_path / "out"), "--format", "table", "--time-system", "HJD"]
    with pytest.raises(SystemExit) as done:
        main([*words, "--columns", "time,mag,err"])
    assert done.value.code == 0
    assert pq.read_table(tmp_path / "out" / "part-00000.parquet").num_rows == 1
