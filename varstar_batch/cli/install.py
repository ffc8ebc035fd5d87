"""What `varstar site` does: put a site into systemd's hands, the whole machine's or a person's own, and take it out."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from varstar_batch.cli.console import note, say
from varstar_batch.cli.serve import DATABASE_VARIABLE, KEY_VARIABLE, database_of, new_key
from varstar_batch.cli.site_server import HOST
from varstar_batch.cli.units import SITE_UNIT, TAP_UNIT, judged, unit, variable
from varstar_batch.errors import InputError, one_line

if TYPE_CHECKING:
    from varstar_batch.flows.deploy import OneCatalog, SeveralCatalogs

USER = "varstar"
USER_FILE = f"u {USER} - varstar-batch /var/lib/varstar -\n"

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""Where the units see nothing, or something of their own."""

SETTINGS = tuple(f"VARSTAR_{name}" for name in ("SURVEY", "CATALOG", "SITES", "MODELS", "PORT", "LIMIT", "NOTIFY"))
"""Options of `varstar serve`, as variables."""

OURS = (*SETTINGS, "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", KEY_VARIABLE)
"""Variables of the environment file that are written anew each time; whatever else stands in it stays."""


@dataclass(frozen=True)
class Place:
    """Where the files of a site go."""

    base: Path
    """Folder of the environment file's folder and of systemd's: /etc, or a person's own configuration."""
    units: Path
    own: bool
    """For the manager of the person who asks."""
    here: bool
    """It is this machine's own, not an image's that is being made."""

    @property
    def environment(self) -> Path:
        """File of settings and secrets."""
        return self.base / "varstar/varstar.env"

    @property
    def user(self) -> Path | None:
        """File that tells systemd of the user."""
        return None if self.own else self.base / "sysusers.d/varstar.conf"

    def systemctl(self, *words: str) -> str:
        """Return a command as a person would type it."""
        return " ".join(["systemctl", *(["--user"] if self.own else []), *words])


def place_of(prefix: Path | None) -> Place:
    """Return where a site goes: below the prefix, or into the system where root asks, else into the person's own."""
    if prefix is None and os.geteuid() != 0:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return Place(base, base / "systemd/user", own=True, here=True)
    base = (prefix or Path("/")).resolve() / "etc"
    return Place(base, base / "systemd/system", own=False, here=prefix is None)


def install(
    deployed: OneCatalog | SeveralCatalogs, settings: Mapping[str, str], place: Place, *, tap: bool, dry: bool
) -> None:
    """Write user, environment file and units, all or none of them, and start the site where systemd runs.

    Parameters
    ----------
    deployed : OneCatalog or SeveralCatalogs
        What the site is for.
    settings : mapping of str to str
        Variables of the environment file, beside those that every site has.
    place : Place
        Where to.
    tap : bool
        With `varstar tap`.
    dry : bool
        Only say what would be written.

    Raises
    ------
    InputError
        The units would not see the package or the survey, systemd finds them wrong, or a file cannot be written.
    """
    catalogs = deployed.catalogs()
    local = [each for _, survey, catalog in catalogs for each in (survey, catalog) if "://" not in each]
    models = [each for each in (settings.get("VARSTAR_MODELS"), deployed.models) if each and "://" not in each][:1]
    if place.here:
        for _, survey, _ in catalogs:
            if "://" not in survey and not Path(survey).exists():
                raise InputError(
                    expected="a survey", got="nothing there", where=survey, fix="check the path, or give --prefix"
                )
    if place.here and not place.own:
        _check_visible([*local, *models, sys.prefix, str(Path(sys.executable).resolve())])
    writable = [*(each for _, _, each in catalogs if "://" not in each), *models]
    tables = [f"{name}={catalog}" if name else catalog for name, _, catalog in catalogs]
    names = [SITE_UNIT, *([TAP_UNIT] if tap else [])]
    units = {name: unit(name, Path(sys.prefix), writable, tables, own=place.own) for name in names}
    opinions = judged(units, own=place.own)
    files = {place.environment: _environment(place.environment, settings)}
    if place.user is not None:
        files[place.user] = USER_FILE
    files |= {place.units / name: text for name, text in units.items()}
    for line in opinions:
        note(line)
    changed = [file for file, text in files.items() if not file.is_file() or file.read_text() != text]
    for file in files:
        mode = ", mode 600" if file == place.environment else ""
        say(f"{('would write' if dry else 'written') if file in changed else 'as it was':<11}  {file}{mode}")
    if dry:
        return
    write_all(files, secret=place.environment)
    _start(place, names, writable, changed)


def remove(place: Place, *, dry: bool) -> None:
    """Stop the site and remove its units; what it did and what it knows stays, and is named."""
    there = [place.units / name for name in (TAP_UNIT, SITE_UNIT) if (place.units / name).exists()]
    if not there:
        raise InputError(
            expected="a site that is installed",
            got="no unit of it",
            where=str(place.units),
            fix="see `varstar site install --help`",
        )
    if place.here and not dry and _systemd_runs():
        _systemctl(place, "disable", "--now", *(file.name for file in there))
    for file in [*there, *([place.user] if place.user is not None and place.user.exists() else [])]:
        say(f"{'would remove' if dry else 'removed'}  {file}")
        if not dry:
            file.unlink()
    if place.here and not dry and _systemd_runs():
        _systemctl(place, "daemon-reload")
    say(f"Surveys, catalogs and models stay; so do settings and key ({place.environment.parent}), and Prefect's data")


def _check_visible(places: Sequence[str]) -> None:
    for each in places:
        hidden = next((folder for folder in HIDDEN if Path(each).is_relative_to(folder)), None)
        if hidden is not None:
            raise InputError(
                expected="package, survey, catalog and models outside of " + ", ".join(HIDDEN),
                got=each,
                where="varstar site install",
                fix=f"services of the system do not see {hidden}; move it, or install as the person whose it is",
            )


def _environment(file: Path, settings: Mapping[str, str]) -> str:
    """Return the environment file: what it held, but for our own variables; the key stays what it was."""
    lines = file.read_text().splitlines() if file.is_file() else []
    before = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    key = before.get(KEY_VARIABLE) or new_key()
    ours = {
        **settings,
        "PREFECT_API_URL": f"http://{HOST}:{settings['VARSTAR_PORT']}/api",
        "PREFECT_API_AUTH_STRING": key,
        KEY_VARIABLE: key,
    }
    if os.environ.get(DATABASE_VARIABLE):
        database_of(os.environ)
        ours[DATABASE_VARIABLE] = os.environ[DATABASE_VARIABLE]
    kept = [line for line in lines if line.partition("=")[0] not in {*ours, *OURS}]
    return "\n".join([*(variable(name, value) for name, value in ours.items()), *kept]) + "\n"


def write_all(files: Mapping[Path, str], secret: Path) -> None:
    """Write files beside their places, then move them all: whoever is interrupted leaves none half written.

    Raises
    ------
    InputError
        One cannot be written; then none was.
    """
    beside = {file: file.with_name(f".{file.name}.{os.getpid()}") for file in files}
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o600 if file == secret else 0o644
            with os.fdopen(os.open(beside[file], os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
                stream.write(text)
            if file.is_dir():
                raise IsADirectoryError(21, os.strerror(21), str(file))
        for file in files:
            beside[file].replace(file)
    except OSError as error:
        raise InputError(
            expected="a folder that can be written",
            got=os.strerror(error.errno or 0),
            where=str(error.filename or "varstar site install"),
            fix="as root for the whole machine, as yourself for your own, or give another --prefix",
        ) from None
    finally:
        for file in beside.values():
            with suppress(OSError):
                file.unlink()


def _start(place: Place, names: Sequence[str], writable: Sequence[str], changed: Sequence[Path]) -> None:
    if not place.here:
        return
    if place.user is not None:
        _run("systemd-sysusers", str(place.user))
        _give(writable)
    if not _systemd_runs():
        say(f"systemd does not run here; where it does: {place.systemctl('enable', '--now', *names)}")
        return
    _systemctl(place, "daemon-reload")
    _systemctl(place, "enable", *names)
    _systemctl(place, "restart" if changed else "start", *names)
    say(f"It runs: {place.systemctl('status', *names)}")
    say(f"Commands set -a; . {place.environment}; set +a; varstar doctor")
    if place.own:
        me = pwd.getpwuid(os.getuid()).pw_name
        say(f"It ends when you log out, unless an administrator types: loginctl enable-linger {me}")


def _give(folders: Sequence[str]) -> None:
    """Make the folders that are not there yet, the user's own; those that are there are their owner's business."""
    for each in map(Path, folders):
        if not each.exists():
            each.mkdir(parents=True)
            shutil.chown(each, USER, USER)


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def _systemctl(place: Place, *words: str) -> None:
    _run(*place.systemctl(*words).split())


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        said = done.stderr if done.returncode else ""
    except OSError as error:
        said = str(error)
    if said:
        raise InputError(
            expected="a command that does its work",
            got=one_line(said)[-300:],
            where=" ".join(words),
            fix="the files are in place; mend it and give the same command again",
        )
