"""The configuration: read, overridden, and every mistake in it named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from varstar_batch.errors import InputError
from varstar_batch.runs.config import RunConfig, load_config


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_without_a_file_everything_is_the_default() -> None:
    assert load_config(None) == RunConfig()


def test_a_file_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, 'precision = "bfloat16"\n[survey]\nmag = "vmag"\nclass = "type"\n')
    config = load_config(path, ["survey.time=hjd", "chunk_memory=33554432", "engine=openvino"])
    assert config.precision == "bfloat16"
    assert (config.survey.mag, config.survey.class_, config.survey.time) == ("vmag", "type", "hjd")
    assert (config.chunk_memory, config.engine) == (33554432, "openvino")


def test_what_the_result_depends_on_is_in_the_settings_and_nothing_else() -> None:
    base = RunConfig().result_settings()
    assert RunConfig(chunk_memory=2**25, max_failed_fraction=0.5).result_settings() == base
    assert RunConfig(precision="bfloat16").result_settings() != base
    assert load_config(None, ["survey.mag_max=25"]).result_settings() != base


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[survey]\nmagg = 'x'\n", ["unknown key 'survey.magg'", "did you mean 'mag'?"]),
        ("presicion = 'float32'\n", ["unknown key 'presicion'", "did you mean 'precision'?"]),
        ("[preprocessing]\nsigm = 3\n", ["unknown key 'preprocessing.sigm'", "did you mean 'sigma'?"]),
        ("[preprocessing]\nsigma = -3\n", ["sigma", "-3"]),
        ("precision = 'float16'\n", ["precision", "float16"]),
        ("chunk_memory = 7\n", ["chunk_memory", "7"]),
        ("[survey]\nmag_max = 'bright'\n", ["survey.mag_max", "bright"]),
        ("[survey]\npreset = 'asas'\n", ["'asas'", "preset"]),
        ("survey = [\n", ["TOML"]),
    ],
)
def test_each_mistake_is_one_line_with_its_place_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["survey.mag", "=3"])
def test_an_override_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        load_config(None, [text])


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InputError, match="a folder"):
        load_config(tmp_path)


def test_the_preset_gives_way_to_what_stands_beside_it(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "[survey]\npreset = 'canonical'\nmag = 'g'\n"))
    assert config.survey.mag == "g"
