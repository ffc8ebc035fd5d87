"""The command `estimate`: what a run will take before anybody pays for it."""

from __future__ import annotations

from dataclasses import asdict

from varstar_batch.cli.console import format_bytes, print_fields, print_json
from varstar_batch.cli.options import JsonOption, takes
from varstar_batch.errors import InputError
from varstar_batch.files.location import locate
from varstar_batch.progress import duration
from varstar_batch.runs.estimate import EstimateRequest, Prices, foretell, read_rates


@takes(
    EstimateRequest,
    arguments=("survey",),
    common=("model", "preset", "bands", "config", "set_", "workers", "gpus"),
    settings=("engine", "precision", "chunk_memory"),
)
def estimate(request: EstimateRequest, as_json: JsonOption = False) -> None:
    """Foretell time, memory and cost of classifying SURVEY, from its footers and a measurement of some seconds."""
    from varstar_batch.cluster.client import default_workers
    from varstar_batch.cluster.forking import load_ahead_of_workers
    from varstar_batch.cluster.measure_rates import measure_rates, survey_workload, with_rates
    from varstar_batch.runs.prepare import plan_run

    count = default_workers() if request.workers is None else request.workers
    if request.rates is None:
        load_ahead_of_workers()  # as `varstar classify` does
    plan, bundle = plan_run(request.survey, request.model, request.run_config())
    workload = survey_workload(plan)
    rates = (
        measure_rates(plan, bundle, count) if request.rates is None else read_rates(_read(request.rates), request.rates)
    )
    rates = with_rates(rates, classify_rate=request.rate, gpu_rate=request.gpu_rate)
    found = foretell(
        workload,
        rates,
        workers=count,
        gpus=request.gpus,
        chunk_memory=plan.config.chunk_memory,
        prices=Prices(core_hour=request.price_per_core_hour, gpu_hour=request.price_per_gpu_hour),
    )
    if request.save_rates is not None:
        locate(request.save_rates, what="rates").write_bytes(rates.to_json().encode())
    workload = workload.with_objects(rates.observations_per_object)
    if as_json:
        print_json(asdict(found) | {"workload": asdict(workload), "rates": asdict(rates)})
        return
    lines = {
        "survey": f"{workload.objects or 0:,} light curves, {workload.observations:,} observations in "
        f"{workload.partitions:,} partitions, {format_bytes(workload.bytes_in)}",
        "time": f"{duration(found.seconds)}: start-up {duration(found.start_up)}, work {duration(found.working)}, "
        f"verifying and publishing {duration(found.finish)}; limited by {found.limited_by}",
        "memory": f"{format_bytes(found.worker_memory)} for each of {count} workers, "
        f"{format_bytes(found.memory)} in all",
        "used": f"{found.core_hours:,.3g} core hours, {found.gpu_hours:,.3g} GPU hours",
        "rates": f"a worker classifies {rates.classify:,.0f} light curves/s, reads and folds "
        f"{rates.prepare:,.0f} observations/s",
    }
    if request.price_per_core_hour or request.price_per_gpu_hour:
        lines["cost"] = f"{found.cost:,.2f}"
    print_fields(lines)


def _read(path: str) -> str:
    try:
        return locate(path, what="rates").read_bytes().decode()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a JSON file of rates", got=type(error).__name__, where=path, fix="write one with --save-rates"
        ) from None
