"""A thousand mangled files: no crash, no hang, nothing lost silently; each that cannot be read is one line."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import GOLDEN, SKYPATROL_V1, write_archive
from varstar_batch.archives import formats
from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.folder import list_archive, read_archive
from varstar_batch.archives.formats import FORMATS, read_file
from varstar_batch.archives.tally import Tally
from varstar_batch.cli.app import main
from varstar_batch.files.location import locate
from varstar_batch.parallel import Threads

FILES = 1000


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flip_bytes(content: bytes, rng: random.Random) -> bytes:
    mangled = bytearray(content)
    for _ in range(rng.randrange(1, 20)):
        mangled[rng.randrange(len(mangled))] = rng.randrange(256)
    return bytes(mangled)


def shuffle_columns(content: bytes, rng: random.Random) -> bytes:
    lines = [line.split(b",") for line in content.split(b"\n")]
    order = list(range(max(len(line) for line in lines)))
    rng.shuffle(order)
    return b"\n".join(b",".join(line[i] for i in order if i < len(line)) for line in lines)


def other_delimiter(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b",", rng.choice([b";", b"|", b"\t", b" ", b",,", b""]))


def odd_values(content: bytes, rng: random.Random) -> bytes:
    odd = [b"nan", b"NaN", b"inf", b"-inf", b"1e400", b"-1e308", b"9" * 400, b"", b"NULL", b"--", b"\x00", b"1,5", b'"']
    fields = content.split(b",")
    for _ in range(rng.randrange(1, 5)):
        fields[rng.randrange(len(fields))] = rng.choice(odd)
    return b",".join(fields)


def no_utf8(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice([b"\xff\xfe", b"\xe9", b"\xc3\x28"]) + content[place:]


def other_encoding(content: bytes, rng: random.Random) -> bytes:
    return content.decode("latin-1").encode(rng.choice(["utf-16", "utf-32", "utf-7", "utf-8-sig"]))


def lines_mixed(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    rng.shuffle(lines)
    return rng.choice([b"\n", b"\r", b"\r\n", b"\n\n\n"]).join(lines)


def doubled(content: bytes, rng: random.Random) -> bytes:
    return content + content[rng.randrange(len(content)) :]


def packed(content: bytes, rng: random.Random) -> bytes:
    return cut(gzip.compress(content), rng) if rng.random() < 0.7 else gzip.compress(content) + b"rest"


MANGLERS: list[Callable[[bytes, random.Random], bytes]] = [
    cut,
    flip_bytes,
    shuffle_columns,
    other_delimiter,
    odd_values,
    no_utf8,
    other_encoding,
    lines_mixed,
    doubled,
    packed,
]


def accounted(tally: Tally, target: Path) -> None:
    """Check the balance of files and of observations."""
    assert sum(tally.formats.values()) + len(tally.rejected) == tally.files
    assert tally.observations == tally.kept + sum(tally.left_out.values())
    assert sum(pq.read_metadata(path).num_rows for path in target.glob("*.parquet")) == tally.kept
    for one in tally.rejected:
        assert one.error.startswith("expected ")
        assert "\n" not in one.error
        assert len(one.error) < 1000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("only_binary", [False, True])
def test_a_thousand_mangled_files(tmp_path: Path, only_binary: bool) -> None:
    rng = random.Random(20260806)
    originals = [content() if callable(content) else content for content, *_ in GOLDEN.values()]
    if only_binary:
        originals = [content for content in originals if content.startswith((b"SIMPLE", b"<?xml", b"PAR1"))]
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(FILES):
        mangle = MANGLERS[i % len(MANGLERS)]
        (folder / f"star-{i:04d}.dat").write_bytes(mangle(rng.choice(originals), rng))
    whole = [*range(0, 40)]
    for i in whole:
        (folder / f"whole-{i:04d}.csv").write_bytes(SKYPATROL_V1)
    target = tmp_path / "read"
    seen: list[int] = []
    tally = read_archive(locate(folder, what="archive"), list(FORMATS.values()), None, target, Threads(2), seen.append)
    assert tally.files == sum(seen) == FILES + len(whole)
    accounted(tally, target)
    assert len(tally.rejected) > FILES // 3
    assert not [one for one in tally.rejected if one.file.startswith("whole")]
    table = pa.concat_tables(pq.read_table(path) for path in sorted(target.glob("*.parquet")))
    ids = table["object_id"].to_pylist()
    assert sum(name.startswith("whole") for name in ids) == 5 * len(whole)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_read_of_a_mangled_text_is_all_its_lines(seed: int) -> None:
    rng = random.Random(seed)
    content = MANGLERS[seed % len(MANGLERS)](SKYPATROL_V1, rng)
    try:
        _, found = read_file(content, "star.csv", list(FORMATS.values()))
    except UnreadableFileError:
        return
    text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    text = text.decode("utf-16").encode() if text.startswith((b"\xff\xfe", b"\xfe\xff")) else text
    lines = [line for line in text.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    assert found.observations.num_rows == len(lines) - 1


def test_links_pipes_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_BYTES", 2**20)
    monkeypatch.setattr("varstar_batch.archives.folder.MAX_BYTES", 2**20)
    folder = write_archive(tmp_path / "in", good=SKYPATROL_V1, bomb=gzip.compress(b"\n" * 2**22), large=b"1" * 2**21)
    twice = gzip.compress(SKYPATROL_V1) + gzip.compress(b"2458004.0,x,be,1,1,1,1,1,1,V\n" * 40_000)
    entities = (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + b"a" * 99 + b'"><!ENTITY b "&a;&a;&a;">]><VOTABLE>&b;'
    )
    write_archive(folder, members=twice, entities=entities)
    outside = tmp_path / "secret.csv"
    outside.write_bytes(SKYPATROL_V1)
    (folder / "out.csv").symlink_to(outside)
    (folder / "out_folder").symlink_to(tmp_path)
    (folder / "inside.csv").symlink_to(folder / "good.csv")
    (folder / "nowhere.csv").symlink_to(folder / "gone.csv")
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    os.mkfifo(folder / "pipe.csv")
    keys, refused = list_archive(locate(folder, what="archive"))
    assert keys == ["bomb.csv", "entities.csv", "good.csv", "inside.csv", "members.csv"]
    assert [one.file for one in refused] == ["large.csv", "loop.csv", "nowhere.csv", "out.csv", "pipe.csv"]
    target = tmp_path / "read"
    tally = read_archive(locate(folder, what="archive"), list(FORMATS.values()), None, target, Threads(1))
    accounted(tally, target)
    errors = {one.file: one.error for one in tally.rejected}
    assert "a bomb?" in errors["bomb.csv"]
    assert "a bomb?" in errors["members.csv"]
    assert "DTD" in errors["entities.csv"]
    assert tally.formats == {"asassn-skypatrol-v1": 2}


def test_the_command_sets_aside_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_archive(tmp_path / "in", a=SKYPATROL_V1, b=b"nothing", c=SKYPATROL_V1)
    with pytest.raises(SystemExit) as done:
        main(["ingest", str(folder), str(tmp_path / "out"), "--format", "auto", "--band", "V"])
    assert done.value.code == 1
    told = capsys.readouterr()
    assert "3 files in, 2 read" in told.out
    assert "10 observations in them, 8 taken" in told.out
    assert [line for line in told.err.splitlines() if "set aside: b.csv: expected a known format" in line]
    with pytest.raises(SystemExit) as refused:
        main(["ingest", str(folder), str(tmp_path / "other"), "--format", "auto"])
    assert refused.value.code == 2
    with pytest.raises(SystemExit) as refused:
        main(["ingest", str(folder), str(tmp_path / "other"), "--band", "V"])
    assert refused.value.code == 2
    assert "say --format auto" in capsys.readouterr().err
