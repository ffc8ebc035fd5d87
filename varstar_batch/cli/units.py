"""The systemd units of a site, made of those in `deploy/systemd`, and systemd's own opinion of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from varstar_batch.errors import InputError, one_line

TEMPLATES = Path(__file__).resolve().parents[1] / "deploy"

SITE_UNIT, TAP_UNIT = "varstar.service", "varstar-tap.service"

FOR_ROOT_ONLY = (
    "User=",
    "Group=",
    "Protect",
    "Private",
    "ReadWritePaths=",
    "CapabilityBoundingSet=",
    "CacheDirectory=",
)
"""What only the system's manager can do, not a person's own: such lines are left out for that."""


def quoted(word: str) -> str:
    """Return a word of a unit's command or list, as systemd reads it back."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("$", "$$").replace("%", "%%") + '"'


def variable(name: str, value: str) -> str:
    """Return a line of an environment file, for systemd and for `sh`.

    Raises
    ------
    InputError
        The value has more than one line.
    """
    if "\n" in value:
        raise InputError(expected="one line", got="several", where=name, fix="give a name without line feeds")
    for special in '\\"$`':
        value = value.replace(special, "\\" + special)
    return f'{name}="{value}"'


def unit(name: str, folder: Path, writable: Iterable[str], tables: Sequence[str], *, own: bool) -> str:
    """Return the text of a unit.

    Parameters
    ----------
    name : str
        Of the file in `deploy/systemd`.
    folder : Path
        Of the environment that the package is installed in.
    writable : iterable of str
        Folders of this machine that it writes to.
    tables : sequence of str
        What `varstar tap` serves.
    own : bool
        For the manager of the person who asks, not the system's.
    """
    lines = []
    for line in (TEMPLATES / name).read_text().splitlines():
        if own and line.startswith(FOR_ROOT_ONLY):
            continue
        line = line.replace("/opt/varstar/bin/", str(folder / "bin").replace("%", "%%") + "/")  # noqa: PLW2901
        if line.startswith("ExecStart="):
            line = line.replace("${VARSTAR_CATALOG}", " ".join(map(quoted, tables)))  # noqa: PLW2901
        if line.startswith("ReadWritePaths="):
            # Those that are gone for a while must not keep the site from starting.
            line = "ReadWritePaths=" + " ".join("-" + quoted(place) for place in writable)  # noqa: PLW2901
        lines.append(line.replace("multi-user.target", "default.target") if own else line)
    return "\n".join(lines) + "\n"


def judged(units: Mapping[str, str], *, own: bool) -> list[str]:
    """Return how exposed systemd finds each unit, a line each; nothing where systemd is not installed.

    Raises
    ------
    InputError
        It finds a unit wrong.
    """
    if shutil.which("systemd-analyze") is None:
        return []
    manager = ["--user"] if own else []
    said = []
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / unit for unit in units]
        for file, text in zip(files, units.values(), strict=True):
            file.write_text(text)
        done = _analyze(*manager, "verify", "--man=no", *map(str, files))
        # It speaks of the machine's other units, too.
        wrong = [line for line in done.stderr.splitlines() if any(file.name in line for file in files)]
        if wrong:
            raise InputError(
                expected="units that systemd accepts",
                got=one_line("; ".join(wrong)).replace(f"{name}/", ""),
                where="systemd-analyze verify",
                fix="look at the paths that were given",
            )
        for file in files:
            done = _analyze(*manager, "security", "--offline=yes", "--no-pager", str(file))
            said += [line.lstrip("→ ") for line in done.stdout.splitlines() if "Overall exposure level" in line]
    return said


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
