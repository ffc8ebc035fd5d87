"""Remove from this interpreter's environment what no run of varstar-batch opens, compile what every start needs.

For images only, as `python -P`. What goes: the libraries' own tests and headers, OpenVINO's devices other than the CPU,
pip, which nobody needs where nothing can be written, and setuptools, where no package asks for it. Bytecode, since a
read-only image cannot keep what it makes: without it each start takes 4 s of a core more; of everything it would take
200 MB.
"""

import importlib
import os
import py_compile
import re
import shutil
import sys
import sysconfig
from importlib.metadata import distributions
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
STARTED = (
    "bokeh.server.server",
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "distributed.http.scheduler.prometheus.core",
    "distributed.http.worker.prometheus.core",
    "varstar_batch.flows.deploy",
    "varstar_batch.flows.reclassify",
    "openvino",
    "prefect.cli",
    "prefect.flow_engine",
    "prefect.server.api.server",
    "prefect.workers.process",
    "prefect_kubernetes",
    "s3fs",
    "varstar_batch.cli.app",
    "varstar_batch.cluster.preload",
    "varstar_batch.runs.stages",
)
"""What the commands of a site import when they start."""


def candidates() -> list[Path]:
    """Return what is to go: folders and files, none within another."""
    folders = [folder for name in TESTED for folder in (SITE / name).rglob("test*") if folder.name in {"test", "tests"}]
    outer = [folder for folder in folders if folder not in WANTED and not set(folder.parents) & set(folders)]
    return [*outer, *(SITE / name for name in OTHERS), *SITE.glob("pip-*.dist-info"), *unasked()]


def unasked() -> list[Path]:
    """Return the folders of setuptools, which venv brings, if no installed package requires it."""
    lines = [line for package in distributions() for line in package.requires or []]
    if any(re.match(r"setuptools\b(?!.*extra ==)", line) for line in lines):
        return []
    files = [file for package in distributions(name="setuptools") for file in package.files or []]
    return [SITE / name for name in sorted({file.parts[0] for file in files}) if name != ".."]


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


def compile_started() -> int:
    """Compile whatever is loaded with the modules of `STARTED`, and return how many modules that are."""
    sys.dont_write_bytecode = True
    for name in STARTED:
        importlib.import_module(name)
    files = {str(getattr(module, "__file__", None)) for module in [*sys.modules.values()]}
    # What this process loaded when it started may have been trimmed since.
    ours = [file for file in files if file.endswith(".py") and Path(file).is_relative_to(SITE) and Path(file).exists()]
    for file in ours:
        # Copies of the files in later layers have other times, by which the usual bytecode would be found out of date.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(file, doraise=True, quiet=1, invalidation_mode=mode)
    return len(ours)


def keep_kernels() -> int:
    """Have the kernels of folding and simulation compiled in NUMBA_CACHE_DIR, and return how many files keep them."""
    from varstar_batch.light_curves.fold import compile_kernels
    from varstar_batch.simulation.objects import simulate_objects

    # Numba compares the times of sources, of which the layers of an image keep whole seconds.
    for file in (SITE / "varstar_batch").rglob("*.py"):
        os.utime(file, (0, 0))
    compile_kernels()
    simulate_objects(0, 1, 0)
    return sum(file.is_file() for file in Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*"))


if __name__ == "__main__":
    print(f"removed {trim() / 1e6:.0f} MB from {SITE}, compiled {compile_started()} modules")
    print(f"kernels kept in {keep_kernels()} files")
