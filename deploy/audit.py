"""Audit the dependencies: exit code 1 and a list, if anything is wrong.

python deploy/audit.py [CONSTRAINTS [ADVISORIES]]

Without a network: each line of constraints.txt is one exact version and no address; each package that is installed is
pinned there, at the version that is installed, and its Python files are those it was installed with; none is older than
advisories.toml says; the weights of the model that ships are those of its contract. Where `pip-audit` is installed and
its database answers, what that finds counts, too; where not, that is said and nothing is claimed.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "varstar_batch/model/bundles/default"
OURS = "varstar-batch"
PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)==([\w.!+]+)")
SECONDS = 120


def read_pins(file: Path) -> tuple[dict[str, str], list[str]]:
    """Return the versions that a constraints file pins, by name, and what is wrong with its lines."""
    pins: dict[str, str] = {}
    problems = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        match = PINNED.fullmatch(line)
        if match is None:
            problems.append(f"{file.name}:{number}: expected NAME==VERSION, got {line!r}")
            continue
        name = canonicalize_name(match[1])
        if name in pins:
            problems.append(f"{file.name}:{number}: {name} a second time")
        pins[name] = match[2]
    return pins, problems


def unpinned(pins: Mapping[str, str], installed: Mapping[str, str]) -> Iterator[str]:
    """Yield what is installed at another version than the pinned one, or pinned nowhere."""
    for name, version in sorted(installed.items()):
        if name != OURS and pins.get(name) != version:
            yield f"{name} {version} is installed, constraints.txt says {pins.get(name, 'nothing')}"


def known(versions: Mapping[str, str], advisories: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Yield the versions below the first one without a known vulnerability."""
    for name, entry in advisories.items():
        version = versions.get(name)
        if version is not None and Version(version) < Version(str(entry["fixed"])):
            yield f"{name} {version}: vulnerable before {entry['fixed']} ({entry['advisories']})"


def changed(packages: Iterable[Distribution]) -> Iterator[str]:
    """Yield the Python files that are no longer what was installed, by the hashes of each package's record."""
    for package in packages:
        for file in package.files or []:
            path = Path(str(package.locate_file(file)))
            if file.hash is None or file.hash.mode != "sha256" or path.suffix != ".py":
                continue
            if not path.exists():
                yield f"{package.name}: {file} is missing"
                continue
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            if digest != file.hash.value:
                yield f"{package.name}: {file} is not what was installed"


def other_weights(bundle: Path) -> Iterator[str]:
    """Yield a line if a bundle's weights are not those of its contract."""
    expected = json.loads((bundle / "bundle.json").read_text())["weights_sha256"]
    got = hashlib.sha256((bundle / "model.keras").read_bytes()).hexdigest()
    if got != expected:
        yield f"{bundle.name}/model.keras: expected sha256 {expected}, got {got}"


def read_answer(answer: str) -> tuple[list[str], int]:
    """Return what `pip-audit --format json` found, and of how many packages it knew anything."""
    packages = json.loads(answer)["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, fixed in {', '.join(each['fix_versions']) or 'none'}"
        for package in packages
        for each in package.get("vulns", [])
    ]
    return found, sum("skip_reason" not in package for package in packages)


def ask_database(constraints: Path) -> tuple[list[str], str]:
    """Return what pip-audit finds, and in a sentence how much it could say."""
    program = shutil.which("pip-audit")
    if program is None:
        return [], "pip-audit is not installed: no database was asked"
    words = [program, "--requirement", str(constraints), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(
            [*words, "--progress-spinner", "off"], capture_output=True, text=True, check=False, timeout=SECONDS
        )
        found, audited = read_answer(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return [], "pip-audit's database did not answer: it was not asked"
    return found, f"pip-audit's database knew {audited} packages of constraints.txt"


def audit(constraints: Path, advisories: Path) -> tuple[list[str], str]:
    """Return everything that is wrong, one line each, and how far a database was asked."""
    pins, problems = read_pins(constraints)
    packages = list(distributions())
    installed: dict[str, str] = {canonicalize_name(package.name): package.version for package in packages}
    floors = tomllib.loads(advisories.read_text())
    problems += unpinned(pins, installed)
    problems += known(pins, floors)
    problems += changed(package for package in packages if canonicalize_name(package.name) != OURS)
    problems += other_weights(BUNDLE)
    found, asked = ask_database(constraints)
    return problems + found, f"{len(pins)} pinned, {len(installed)} installed, {len(floors)} advisories; {asked}"


if __name__ == "__main__":
    files = [ROOT / "constraints.txt", ROOT / "deploy/advisories.toml"]
    given = [Path(word) for word in sys.argv[1:]]
    wrong, said = audit(*(given + files[len(given) :]))
    print(*wrong, said, sep="\n")
    sys.exit(bool(wrong))
