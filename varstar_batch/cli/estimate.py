"""The command `estimate`: what a run will take before anybody pays for it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from varstar_batch.cli.console import out, parse_bytes, print_json
from varstar_batch.errors import InputError
from varstar_batch.progress import duration


def register(app: typer.Typer) -> None:
    """Add the command to `varstar`."""
    app.command()(estimate)


def estimate(
    survey: Annotated[str, typer.Argument(help="Folder or URL of a survey, as for `classify`.")],
    workers: Annotated[int | None, typer.Option(help="Worker processes, a core each. [default: one per core]")] = None,
    gpus: Annotated[int, typer.Option(help="GPUs that classify while the workers read and fold.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Folder or URL of a model bundle. [default: the one that ships]")
    ] = None,
    config: Annotated[str | None, typer.Option(help="TOML file, as for `classify`.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top of it.")] = None,
    preset: Annotated[str | None, typer.Option(help="Known survey, for its column names.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, openvino or keras.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    chunk_memory: Annotated[str | None, typer.Option(help="Memory of a chunk in a worker, e.g. 256MiB.")] = None,
    rates: Annotated[
        str | None, typer.Option(help="JSON file of rates measured elsewhere, instead of measuring here.")
    ] = None,
    save_rates: Annotated[str | None, typer.Option(help="Write the rates to this file, for --rates.")] = None,
    rate: Annotated[float | None, typer.Option(help="Light curves/s of the CNN on one worker, if you know.")] = None,
    gpu_rate: Annotated[float | None, typer.Option(help="Light curves/s of the CNN on one GPU.")] = None,
    price_per_core_hour: Annotated[float, typer.Option(min=0, help="In any currency.")] = 0.0,
    price_per_gpu_hour: Annotated[float, typer.Option(min=0, help="In the same.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Foretell time, memory and cost of classifying SURVEY, from its footers and a measurement of some seconds."""
    from varstar_batch.cluster.client import default_workers
    from varstar_batch.cluster.forking import load_ahead_of_workers
    from varstar_batch.cluster.measure_rates import calibrate, survey_workload, with_rates
    from varstar_batch.files.location import locate
    from varstar_batch.runs.config import load_config
    from varstar_batch.runs.estimate import Prices, read_rates
    from varstar_batch.runs.estimate import estimate as foretell
    from varstar_batch.runs.prepare import plan_run

    overrides = [f"survey.preset={preset}"] if preset else []
    overrides += set_ or []
    overrides += [f"{key}={value}" for key, value in (("engine", engine), ("precision", precision)) if value]
    overrides += [f"chunk_memory={parse_bytes(chunk_memory, '--chunk-memory')}"] if chunk_memory is not None else []
    count = default_workers() if workers is None else workers
    settings = load_config(config, overrides)
    if rates is None:
        load_ahead_of_workers()  # as `varstar classify` does
    plan, bundle = plan_run(survey, model, settings)
    workload = survey_workload(plan)
    measured = calibrate(plan, bundle, count) if rates is None else read_rates(_read(rates), rates)
    measured = with_rates(measured, classify_rate=rate, gpu_rate=gpu_rate)
    found = foretell(
        workload,
        measured,
        workers=count,
        gpus=gpus,
        chunk_memory=plan.config.chunk_memory,
        prices=Prices(core_hour=price_per_core_hour, gpu_hour=price_per_gpu_hour),
    )
    if save_rates is not None:
        locate(save_rates, what="rates").write_bytes(measured.to_json().encode())
    workload = workload.with_objects(measured.observations_per_object)
    if as_json:
        print_json(asdict(found) | {"workload": asdict(workload), "rates": asdict(measured)})
        return
    lines = {
        "survey": f"{workload.objects or 0:,} light curves, {workload.observations:,} observations in "
        f"{workload.partitions:,} partitions, {_size(workload.bytes_in)}",
        "time": f"{duration(found.seconds)}: start-up {duration(found.start_up)}, work {duration(found.working)}, "
        f"verifying and publishing {duration(found.finish)}; limited by {found.limited_by}",
        "memory": f"{_size(found.worker_memory)} for each of {count} workers, {_size(found.memory)} in all",
        "used": f"{found.core_hours:,.3g} core hours, {found.gpu_hours:,.3g} GPU hours",
        "rates": f"a worker classifies {measured.classify:,.0f} light curves/s, reads and folds "
        f"{measured.prepare:,.0f} observations/s",
    }
    if price_per_core_hour or price_per_gpu_hour:
        lines["cost"] = f"{found.cost:,.2f}"
    for name, text in lines.items():
        out.print(f"[bold]{name:>7}[/]  {text}")


def _read(path: str) -> str:
    from varstar_batch.files.location import locate

    try:
        return locate(path, what="rates").read_bytes().decode()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a JSON file of rates", got=type(error).__name__, where=path, fix="write one with --save-rates"
        ) from None


def _size(count: int) -> str:
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 2**20:.0f} MiB"
