"""`varstar site install`: files, modes and units, as root's image, as a person's own, and once under a real systemd."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.makers.command_line import Result
from tests.makers.surveys import write_survey
from varstar_batch.cli import install as installer
from varstar_batch.cli.install import place_of, write_all
from varstar_batch.cli.serve import DATABASE_VARIABLE, KEY_VARIABLE
from varstar_batch.cli.units import quoted, unit, variable
from varstar_batch.errors import InputError

Varstar = Callable[..., Result]

MOST_EXPOSURE = 4.0
"""Of 10, as `systemd-analyze security` counts: below it says "OK". Systemd 252 gives 2.0 and 1.7."""


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*installer.SETTINGS, DATABASE_VARIABLE, KEY_VARIABLE]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "the survey", (5,))


def installed(varstar: Varstar, survey: Path, prefix: Path, *words: object) -> Result:
    catalog = survey.parent / "the catalog"
    return varstar("site", "install", "--survey", survey, "--catalog", catalog, "--prefix", prefix, *words)


def environment(prefix: Path) -> dict[str, str]:
    """The variables, as a shell reads the file."""
    code = "set -a; . etc/varstar/varstar.env; python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(["sh", "-c", code], cwd=prefix, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def content(prefix: Path) -> dict[str, str]:
    return {str(file.relative_to(prefix)): file.read_text() for file in prefix.rglob("*") if file.is_file()}


def test_everything_is_there_with_its_mode(varstar: Varstar, survey: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "image"
    done = installed(varstar, survey, prefix, "--tap", "--port", "4300")
    assert done.code == 0, done.err
    units = {"etc/systemd/system/varstar.service", "etc/systemd/system/varstar-tap.service"}
    assert set(content(prefix)) == units | {"etc/varstar/varstar.env", "etc/sysusers.d/varstar.conf"}
    file = prefix / "etc/varstar/varstar.env"
    assert file.stat().st_mode & 0o777 == 0o600
    said = environment(prefix)
    assert said["VARSTAR_SURVEY"] == str(survey)
    assert said["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
    key = said[KEY_VARIABLE]
    assert said["PREFECT_API_AUTH_STRING"] == key
    assert len(key.partition(":")[2]) >= 40
    # In that file alone, and not on the terminal.
    assert [name for name, text in content(prefix).items() if key in text] == ["etc/varstar/varstar.env"]
    assert key not in done.out + done.err
    text = content(prefix)["etc/systemd/system/varstar.service"]
    assert f'ReadWritePaths=-"{survey.parent}/the catalog"' in text
    assert "/opt/varstar" not in text
    assert f'tap "{survey.parent}/the catalog"' in content(prefix)["etc/systemd/system/varstar-tap.service"]


def test_again_changes_nothing_and_keeps_what_the_operator_added(
    varstar: Varstar, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "image"
    assert installed(varstar, survey, prefix).code == 0
    file = prefix / "etc/varstar/varstar.env"
    file.write_text(file.read_text() + "AWS_SECRET_ACCESS_KEY=own\n# a remark\n")
    before = content(prefix)
    again = installed(varstar, survey, prefix)
    assert again.out.count("as it was") == 3
    assert content(prefix) == before
    # Another port, and a database: the key and the operator's own lines stay.
    url = 'postgresql+asyncpg://prefect:a$b`c"d@db/prefect'
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    other = installed(varstar, survey, prefix, "--port", "4301")
    assert other.out.count("as it was") == 2
    said = environment(prefix)
    assert said[DATABASE_VARIABLE] == url
    assert (said["VARSTAR_PORT"], said["AWS_SECRET_ACCESS_KEY"]) == ("4301", "own")
    assert "# a remark" in file.read_text()
    assert said[KEY_VARIABLE] in before["etc/varstar/varstar.env"]
    monkeypatch.delenv(DATABASE_VARIABLE)
    assert installed(varstar, survey, prefix).code == 0
    assert environment(prefix)[DATABASE_VARIABLE] == url
    assert not [name for name in content(prefix) if Path(name).name.startswith(".")]


def test_a_file_of_several_catalogs(varstar: Varstar, survey: Path, tmp_path: Path) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text(
        f'[catalogs.one]\nsurvey = "{survey}"\ncatalog = "one"\n'
        '[catalogs.two]\nsurvey = "s3://b/survey"\ncatalog = "s3://b/catalog"\n'
    )
    prefix = tmp_path / "image"
    assert varstar("site", "install", "--sites", sites, "--prefix", prefix, "--tap").code == 0
    assert environment(prefix)["VARSTAR_SITES"] == str(sites)
    assert "VARSTAR_SURVEY" not in environment(prefix)
    texts = content(prefix)
    assert f'ReadWritePaths=-"{tmp_path}/one" -"{tmp_path}/models"' in texts["etc/systemd/system/varstar.service"]
    assert f'tap "one={tmp_path}/one" "two=s3://b/catalog"' in texts["etc/systemd/system/varstar-tap.service"]


def test_what_would_be_done_is_only_said(varstar: Varstar, survey: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "image"
    done = installed(varstar, survey, prefix, "--dry-run")
    assert done.out.count("would write") == 3
    assert not prefix.exists()


def test_removed_is_what_was_installed_and_the_key_stays(varstar: Varstar, survey: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "image"
    installed(varstar, survey, prefix, "--tap")
    assert "would remove" in varstar("site", "remove", "--prefix", prefix, "--dry-run").out
    assert len(content(prefix)) == 4
    done = varstar("site", "remove", "--prefix", prefix)
    assert done.code == 0, done.err
    assert list(content(prefix)) == ["etc/varstar/varstar.env"]
    assert str(prefix / "etc/varstar") in done.out
    again = varstar("site", "remove", "--prefix", prefix)
    assert again.code == 2
    assert "a site that is installed" in again.err


WRONG = [
    ((), "--survey and --catalog, or --sites"),
    (("--survey", "/data"), "--survey and --catalog, or --sites"),
    (("--survey", "/data", "--catalog", "/c", "--port", "0"), "--port"),
    (("--survey", "/data\n/x", "--catalog", "/c"), "expected one line"),
    (("--sites", "/nowhere.toml"), "/nowhere.toml"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words).replace("\n", " ") for words, _ in WRONG])
def test_wrong_arguments_are_one_line_and_leave_nothing(
    varstar: Varstar, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    prefix = tmp_path / "image"
    done = varstar("site", "install", "--prefix", prefix, *words)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert said in line
    assert not prefix.exists()
    assert varstar("site", "restart").code == 2


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_text("before")
    with pytest.raises(InputError, match="Is a directory"):
        write_all({tmp_path / "a": "after", tmp_path / "b": "text"}, secret=tmp_path / "a")
    assert (tmp_path / "a").read_text() == "before"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("folder", ["/home/me/survey", "/root/x", "/tmp/x"])
def test_the_systems_services_do_not_see_peoples_own_folders(folder: str) -> None:
    with pytest.raises(InputError, match="services of the system do not see"):
        installer._check_visible(["/srv/varstar", folder])


def test_words_of_units_and_variables_read_back() -> None:
    assert quoted('/a b/%n"$x\\') == '"/a b/%%n\\"$$x\\\\"'
    for value in ("/a b/c", "it's", 'a"b', "a$HOME`b\\"):
        assert shlex.split(variable("X", value)) == [f"X={value}"] or "`" in value or "$" in value


def test_a_persons_own_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place = place_of(None)
    assert place.environment == tmp_path / "varstar/varstar.env"
    assert place.units == tmp_path / "systemd/user"
    assert place.user is None
    assert place.systemctl("status", "varstar") == "systemctl --user status varstar"
    text = unit("varstar.service", Path("/venv"), ["/data/catalog"], ["/data/catalog"], own=True)
    assert "WantedBy=default.target" in text
    assert "ExecStart=/venv/bin/varstar serve" in text
    assert not [line for line in text.splitlines() if line.startswith(installer_only())]
    assert "NoNewPrivileges=yes" in text


def installer_only() -> tuple[str, ...]:
    return ("User=", "Group=", "ProtectSystem=", "PrivateTmp=", "ReadWritePaths=", "CapabilityBoundingSet=")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd")
def test_systemd_finds_the_units_right_and_little_exposed(varstar: Varstar, survey: Path, tmp_path: Path) -> None:
    done = installed(varstar, survey, tmp_path / "image", "--tap")
    lines = [line for line in done.err.splitlines() if "Overall exposure level for varstar" in line]
    assert len(lines) == 2, done.err
    for line in lines:
        assert float(line.split(": ")[1].split()[0]) < MOST_EXPOSURE, line


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd")
def test_a_unit_that_systemd_refuses_is_not_installed(
    varstar: Varstar, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer.sys, "prefix", "/no/such/environment")
    done = installed(varstar, survey, tmp_path / "image")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "units that systemd accepts" in line
    assert "/no/such/environment/bin/varstar" in line
    assert not (tmp_path / "image").exists()
