"""Look after a catalog: verify what is published, prune old runs, write the report anew."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from pydantic import Field

from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.checks import Finding, VerificationError
from varstar_batch.catalog.run_files.history import prunable, prune
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.flows.artifacts import key_of
from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.report import write_report

TIMEOUT_SECONDS = 10 * 3600
"""Every byte of the catalog is read once; what takes longer must not meet the nightly run."""


class MaintainParameters(FlowParameters):
    """Which catalog, and how many of its runs stay."""

    catalog: str = Field(description="Folder or URL of the catalog", min_length=1)
    keep: int = Field(default=8, ge=1, description="Newest published runs that stay; the current one always does")
    report: bool = Field(default=True, description="Write the report of the current run anew")


def _run_name() -> str:
    return short_name(parameters_of_run(MaintainParameters).catalog)


@flow(name="maintain", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, **FLOW)
def maintain(parameters: MaintainParameters) -> dict[str, Any]:
    """Verify the current run, then remove old ones: nothing is removed where the current run is not sound.

    Returns
    -------
    dict
        ``removed``: identifiers of the runs that were pruned.

    Raises
    ------
    VerificationError
        Something is off; a table artifact lists all of it.
    VarstarError
        There is no catalog, or nothing was published in it.
    """
    tell_errors_in_one_line()
    findings = verify_stage(parameters)
    if findings:
        raise VerificationError(
            expected="the catalog as it was published",
            got=f"{len(findings)} findings, the first: {findings[0].file}: {findings[0].message}",
            where=parameters.catalog,
            fix="see the table artifact; `varstar rollback` goes back to an earlier run, and none was pruned",
        )
    removed = prune_stage(parameters)
    if parameters.report:
        report_stage(parameters)
    return {"removed": removed}


@task(name="verify", **STAGE)
def verify_stage(parameters: MaintainParameters) -> list[Finding]:
    """Read every byte and every row of the current run."""
    findings = verify_catalog(open_catalog(parameters.catalog))
    get_run_logger().info("Verified %s: %d findings.", parameters.catalog, len(findings))
    rows = [vars(finding) for finding in findings] or [{"kind": "", "file": "", "message": "all is well"}]
    create_table_artifact(rows, key=key_of("findings", parameters.catalog), description="What is off")
    return findings


@task(name="prune", **STAGE)
def prune_stage(parameters: MaintainParameters) -> list[str]:
    """Remove old runs, and unfinished ones that a later run has overtaken."""
    root = open_catalog_root(parameters.catalog)
    removed = prunable(root, parameters.keep)
    prune(root, removed)
    get_run_logger().info("Removed %d runs.", len(removed))
    return removed


@task(name="report", **STAGE)
def report_stage(parameters: MaintainParameters) -> None:
    """Write the report of the current run."""
    get_run_logger().info("Report in %s.", write_report(open_catalog(parameters.catalog)))
