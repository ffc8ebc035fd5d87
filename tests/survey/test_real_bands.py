"""Stars that were seen in two bands: nothing is mixed, and together they say at least as much as the better one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.makers.bands import banded_table
from tests.makers.command_line import Result
from tests.makers.runs import read_rows
from tests.makers.survey_files import write
from varstar_batch.sky import unit_vectors

PAIRS: Mapping[str, Mapping[str, str]] = {
    "ogle": {"I": "ogle-lmc", "V": "ogle4-lmc-v"},
    "eros2": {"R": "eros2-r", "B": "eros2-b"},
    "sculptor": {"V": "sculptor-v", "B": "sculptor-b"},
    "field-rrl": {"V": "field-rrl-v", "B": "field-rrl-b", "I": "field-rrl-i"},
}
"""Surveys of the same stars, by their bands."""

LEAST = {"ogle": 1900, "eros2": 400, "sculptor": 400, "field-rrl": 50}
"""Stars that at least two bands have, with a class and a period."""

ARCSECOND = np.radians(1 / 3600)


def names_in(known: pa.Table, objects: pa.Table) -> dict[str, str]:
    """Return the names of objects in another survey: those that they have there, or those of the stars within 1"."""
    there = set(known["object_id"].to_pylist())
    own = objects["object_id"].to_pylist()
    if there & set(own):
        return {name: name for name in own if name in there}
    ours, theirs = (unit_vectors(table["ra"].to_numpy(), table["dec"].to_numpy()) for table in (objects, known))
    names = known["object_id"].to_pylist()
    nearest = [int((theirs @ one).argmax()) for one in ours]
    close = [np.linalg.norm(theirs[j] - one) < ARCSECOND for one, j in zip(ours, nearest, strict=True)]
    return {name: names[j] for name, j, near in zip(own, nearest, close, strict=True) if near}


def write_pair(data: Path, surveys: Mapping[str, str], folder: Path) -> pa.Table:
    """Write observations and objects of stars in several bands, and return the objects."""
    tables = {band: pq.read_table(data / name / "objects.parquet") for band, name in surveys.items()}
    first = next(iter(tables.values()))
    names = {band: names_in(first, table) for band, table in tables.items()}
    parts = []
    for band, survey in surveys.items():
        rows = pq.read_table(data / survey / "observations.parquet")
        of_pair = pa.array([names[band].get(name) for name in rows["object_id"].to_pylist()], pa.large_string())
        rows = rows.set_column(rows.column_names.index("object_id"), "object_id", of_pair)
        parts.append(rows.append_column("band", pa.repeat(band, len(rows))).filter(pc.is_valid(of_pair)))
    # Of stars that are in one of the surveys alone there is nothing to combine.
    seen: dict[str, int] = {}
    for part in parts:
        for name in part["object_id"].unique().to_pylist():
            seen[name] = seen.get(name, 0) + 1
    several = pa.array([name for name, number in seen.items() if number > 1], pa.large_string())
    is_known = pc.and_(pc.is_valid(first["class"]), pc.is_valid(first["period"]))
    in_several = pc.is_in(first["object_id"].cast(pa.large_string()), several)
    objects = first.filter(pc.and_(is_known, in_several)).drop_columns(["band"])
    kept = objects["object_id"].cast(pa.large_string()).combine_chunks()
    write(
        folder / "observations.parquet",
        pa.concat_tables([part.filter(pc.is_in(part["object_id"], kept)) for part in parts]),
    )
    write(folder / "objects.parquet", objects)
    return objects


def right_of(catalog: Path) -> dict[str, bool]:
    """Return of each classified star whether it has the class of its label."""
    rows = read_rows(catalog)
    rows = rows.filter(pc.is_valid(rows["class"]))
    return dict(zip(rows["object_id"].to_pylist(), pc.equal(rows["class"], rows["label"]).to_pylist(), strict=True))


def judge(varstar: Callable[..., Result], survey: Path, folder: Path, bands: Sequence[str]) -> float:
    """Check that a choice is asked for, and all bands against each of them; return which share is right with all."""
    refused = varstar("classify", survey, folder / "refused", "--workers", 0)
    assert refused.code == 2
    assert all(word in refused.err for word in ("--band ", "--bands fuse", *(f"{band} (" for band in bands)))
    assert not (folder / "refused").exists()
    right = {}
    for choice in (*bands, "fuse"):
        result = varstar("classify", survey, folder / choice, "--bands", choice, "--workers", 0, "--json")
        assert result.code == 0, result.err
        right[choice] = right_of(folder / choice)
        print(f"{choice}: {sum(right[choice].values())} of {len(right[choice])} right")
    together = right.pop("fuse")
    for band, alone in right.items():
        same = sum(together[name] for name in alone)
        print(f"of the {len(alone)} that {band} classifies {same} right together, {sum(alone.values())} alone")
        assert same >= sum(alone.values())
    return sum(together.values()) / len(together)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PAIRS)
def test_real_stars_in_several_bands(
    name: str, shared_data: Path, tmp_path: Path, varstar: Callable[..., Result]
) -> None:
    objects = write_pair(shared_data, PAIRS[name], tmp_path)
    assert len(objects) >= LEAST[name]
    tables = (tmp_path / "observations.parquet", "--objects", tmp_path / "objects.parquet")
    refused = varstar("ingest", tables[0], tmp_path / "refused", *tables[1:])
    assert refused.code == 2
    assert "--bands fuse" in refused.err
    assert varstar("ingest", tables[0], tmp_path / "survey", *tables[1:], "--bands", "fuse").code == 0
    assert judge(varstar, tmp_path / "survey", tmp_path, list(PAIRS[name])) > 0.99


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_simulated_stars_in_two_bands(tmp_path: Path, varstar: Callable[..., Result]) -> None:
    write(tmp_path / "survey" / "part.parquet", banded_table(3000))
    assert judge(varstar, tmp_path / "survey", tmp_path, ["g", "r"]) >= 0.97
