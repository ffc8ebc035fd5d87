"""Folders of an archive's files become surveys, and everything in them is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import HJD, OGLE, SKYPATROL_V1, SKYPATROL_V1_OLD, ZTF, write_archive, ztf_hats
from varstar_batch.archives import folder as archive_folder
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ARCHIVE_REPORT, REJECTED, ingest_archive
from varstar_batch.ingest.options import ArchiveOptions
from varstar_batch.parallel import Threads
from varstar_batch.survey.open import open_survey


def test_a_folder_becomes_a_survey_and_everything_is_accounted_for(tmp_path: Path) -> None:
    strange = SKYPATROL_V1_OLD.replace(b",be,", b",bz,")
    folder = write_archive(tmp_path / "in", a=SKYPATROL_V1, b=SKYPATROL_V1_OLD, c=strange, d=SKYPATROL_V1[:-50])
    (tmp_path / "objects.csv").write_text("object_id,period,ra,dec\na,0.5,10,20\nb,,11,21\nz,1.5,12,22\n")
    options = ArchiveOptions(band="V")
    report = ingest_archive(folder, tmp_path / "objects.csv", tmp_path / "out", options)
    tally = report.tally
    assert (tally.files, len(tally.rejected), tally.observations) == (4, 1, 15)
    assert tally.rejected[0].file == "d.csv"
    assert "\n" not in tally.rejected[0].error
    assert tally.unknown_cameras == {"bz": 4}
    assert tally.bands == {"V": 8, "g": 3, "unknown": 4}
    assert tally.left_out == {"band g": 3, "band unknown": 4}
    assert tally.kept == 8 == report.ingest.observations_written
    assert report.unmatched == 1
    assert (report.ingest.objects_written, report.ingest.objects_without_observations) == (3, 1)
    assert pq.read_table(tmp_path / "out" / REJECTED)["file"].to_pylist() == ["d.csv"]
    assert json.loads((tmp_path / "out" / ARCHIVE_REPORT).read_text())["files_set_aside"] == 1
    survey = open_survey(tmp_path / "out")
    assert survey.source.time_system == "HJD"
    table = pq.read_table(tmp_path / "out" / survey.partitions[0].key)
    assert table["object_id"].to_pylist() == ["a", "b", "z"]
    assert table["period"].to_pylist() == [0.5, None, 1.5]
    assert table["band"].to_pylist() == ["V"] * 3
    light_curve = table["lightcurve"][0].as_py()
    assert light_curve["time"] == [*HJD, 2458003.51147]
    assert light_curve["camera"] == ["be"] * 4


READ = """
import sys
from varstar_batch.archives import folder
from varstar_batch.ingest.from_archive import ArchiveOptions, ingest_archive
from varstar_batch.parallel import Threads
folder._UNIT_FILES = 10
done = 0
def progress(files):
    global done
    done += files
    if done == 50:
        print("now", flush=True)
        sys.stdin.read()
ingest_archive(sys.argv[1], None, sys.argv[2], ArchiveOptions(band="V"), progress, Threads(1))
"""


def test_an_archive_whose_reading_was_killed_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"star-{i:03d}": SKYPATROL_V1 if i % 7 else SKYPATROL_V1[:-50] for i in range(100)}
    archive = write_archive(tmp_path / "in", **files)
    monkeypatch.setattr(archive_folder, "_UNIT_FILES", 10)
    options = ArchiveOptions(band="V")
    expected = ingest_archive(archive, None, tmp_path / "whole", options)
    words = [sys.executable, "-c", READ, str(archive), str(tmp_path / "survey")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "now\n"
        killed.kill()
    assert not (tmp_path / "survey").exists()
    read: list[str] = []
    read_batch = archive_folder._Reader._read_batch

    def watched(reader: Any, keys: Any) -> Any:
        read.extend(keys)
        return read_batch(reader, keys)

    monkeypatch.setattr(archive_folder._Reader, "_read_batch", watched)
    report = ingest_archive(archive, None, tmp_path / "survey", options, crew=Threads(1))
    assert report.as_dict() == expected.as_dict()
    assert report.tally.rejected == expected.tally.rejected
    assert len(expected.tally.rejected) == 15
    # What was in flight beside what was done may be done, too.
    assert 30 <= len(read) <= 50
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "survey").iterdir())
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "survey" / name).read_bytes() for name in names)


def test_without_a_table_every_object_that_is_met_is_one(tmp_path: Path) -> None:
    report = ingest_archive(write_archive(tmp_path / "in", x=ZTF, y=ZTF.split(b"\n")[0]), None, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table["object_id"].to_pylist() == ["686103400067717", "y"]
    assert table["ra"].to_pylist() == [187.25, None]
    assert table["period"].null_count == 2
    assert table.schema.field("lightcurve").type.names == ["time", "mag", "mag_err"]
    assert report.tally.left_out == {"catflags 32768": 2}


def test_a_release_of_ztf_as_hats_is_read_by_band(tmp_path: Path) -> None:
    other = ztf_hats("nested")
    pixels = tmp_path / "ztf" / "dataset" / "Norder=1" / "Dir=0"
    pixels.mkdir(parents=True)
    (pixels / "Npix=21.parquet").write_bytes(other)
    (pixels / "Npix=22.parquet").write_bytes(ztf_hats("lists"))
    (tmp_path / "ztf" / "hats.properties").write_text("obs_collection=ztf\n")
    (tmp_path / "ztf" / "partition_info.csv").write_text("Norder,Npix\n1,21\n1,22\n")
    (tmp_path / "ztf" / "dataset" / "_metadata").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="observations of band r"):
        ingest_archive(tmp_path / "ztf", None, tmp_path / "out", ArchiveOptions(band="r"))
    report = ingest_archive(tmp_path / "ztf", None, tmp_path / "out", ArchiveOptions(band="g"))
    assert (report.tally.files, len(report.tally.rejected), report.tally.kept) == (2, 0, 6)
    assert open_survey(tmp_path / "out").source.time_system == "HMJD"


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({"a": SKYPATROL_V1}, ArchiveOptions(), "observations of one band"),
        ({"a": SKYPATROL_V1}, ArchiveOptions(band="R"), "observations of band R"),
        ({"a": SKYPATROL_V1, "b": OGLE}, ArchiveOptions(band="all"), "files of one time system"),
        ({"a": b"nothing"}, ArchiveOptions(), "at least one light curve"),
        ({"a": OGLE}, ArchiveOptions(format="ogel"), "one of auto, table"),
        ({"a": OGLE}, ArchiveOptions(format="table"), "the time system"),
        ({"a": OGLE}, ArchiveOptions(time_system="MJD"), "HJD-2450000"),
        ({"a": OGLE}, ArchiveOptions(radius=3.0), "positions"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, bytes], options: ArchiveOptions, expected: str) -> None:
    (tmp_path / "objects.csv").write_text("object_id,period\na,0.5\n")
    with pytest.raises(InputError) as caught:
        ingest_archive(write_archive(tmp_path / "in", **files), tmp_path / "objects.csv", tmp_path / "out", options)
    assert expected in str(caught.value)
    assert not (tmp_path / "out").exists()
