"""Build the images that `tests/deploy/test_compose.py` runs, with podman, while a credential lies about everywhere.

python -m tests.images.build BASE [OPTION OF podman build ...]

BASE is an image of Debian bookworm; where no registry is in reach, debootstrap makes one:

    debootstrap --variant=minbase bookworm FOLDER && tar -C FOLDER -c . | podman import - localhost/bookworm

What is planted, in the environment of the build and in files beside what is copied, must be found in no layer later.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "pl4nted-wh1le-the-image-was-built"
IMAGE = "localhost/varstar-batch-cpu:0.1.0"
DATABASE = "localhost/varstar-postgres:test"
STORE = "localhost/varstar-store:test"
HIDEOUTS = (".env", "deploy/.env", "deploy/tls/tls.key", "varstar_batch/credentials.json", "flows/.aws/credentials")


def copy_committed(folder: Path) -> None:
    """Copy what is committed: an image must not depend on what else lies in the working tree."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def plant(folder: Path) -> None:
    """Leave a credential where people leave them."""
    for name in HIDEOUTS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"AWS_SECRET_ACCESS_KEY={PLANTED}\n")


def build(base: str, options: list[str]) -> None:
    """Build the three images, say what each took, and how large it is."""
    planted = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "VARSTAR_DATABASE_PASSWORD"), PLANTED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_committed(folder)
        plant(folder)
        images = {IMAGE: "deploy/Dockerfile", DATABASE: "postgres.Dockerfile", STORE: "store.Dockerfile"}
        for image, file in images.items():
            own = file.startswith("deploy/")
            if not own:
                shutil.copy(folder / "constraints.txt", folder / "tests/images")
            words = ["podman", "build", "--format=docker", "--layers", f"--build-arg=BASE={base}", f"--tag={image}"]
            words += [*options, *(("--target=cpu", f"--file={file}", ".") if own else (f"--file={file}", "."))]
            before = time.monotonic()
            subprocess.run(words, cwd=folder if own else folder / "tests/images", env=os.environ | planted, check=True)
            size = subprocess.run(
                ["podman", "image", "inspect", "--format={{.Size}}", image], capture_output=True, text=True, check=True
            )
            print(f"{image}: {time.monotonic() - before:.0f} s, {int(size.stdout) / 1e6:,.0f} MB", flush=True)


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2:])
