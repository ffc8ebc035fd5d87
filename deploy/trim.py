"""Remove from the environment of this interpreter what no run of varstar-batch opens, and say how much that was.

For images only: the libraries' own tests and headers, OpenVINO's devices other than the CPU, and pip, which nobody needs
where nothing can be written. tests/test_compose.py runs a whole site on what is left.
"""

import importlib.util
import shutil
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
TESTED = ("astropy", "dask", "distributed", "matplotlib", "numba", "numpy", "pandas", "pyarrow", "scipy", "tornado")
WANTED = {SITE / "astropy/tests"}
"""Which the library imports itself."""
OTHERS = (
    "numpy/_core/include",
    "pyarrow/include",
    "tensorflow/include",
    "openvino/include",
    "openvino/libs/cache.json",
    "openvino/libs/libopenvino_intel_gpu_plugin.so",
    "openvino/libs/libopenvino_intel_npu_plugin.so",
    "pip",
)


def candidates() -> list[Path]:
    """Return what is to go: folders and files, none within another."""
    folders = [folder for name in TESTED for folder in (SITE / name).rglob("test*") if folder.name in {"test", "tests"}]
    outer = [folder for folder in folders if folder not in WANTED and not set(folder.parents) & set(folders)]
    return [*outer, *(SITE / name for name in OTHERS), *SITE.glob("pip-*.dist-info")]


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    return (
        path.stat().st_size
        if path.is_file()
        else sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    )


def trim() -> int:
    """Remove the candidates that are there and return how many bytes they took."""
    removed = 0
    for path in candidates():
        if path.exists():
            removed += size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


if __name__ == "__main__":
    if importlib.util.find_spec("varstar_batch") is None:
        raise SystemExit("expected the environment that varstar-batch is installed in; run this by its own python")
    print(f"removed {trim() / 1e6:.0f} MB from {SITE}")
