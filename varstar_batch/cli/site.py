"""Commands for operators: `serve`, `site`, `deploy`, `doctor`, `release`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from varstar_batch.cli.console import print_fields, print_json, say, warning_line
from varstar_batch.cli.options import JsonOption
from varstar_batch.cli.prefect_server import prefect_client
from varstar_batch.errors import ExitCode, InputError, RefusedError

if TYPE_CHECKING:
    from varstar_batch.flows.deploy import OneCatalog, SeveralCatalogs

# Each may stand in the environment instead: in the file that `varstar site install` writes.
SurveyOption = Annotated[str | None, typer.Option(help="Folder or URL of the survey.", envvar="VARSTAR_SURVEY")]
CatalogOption = Annotated[str | None, typer.Option(help="Folder or URL of the catalog.", envvar="VARSTAR_CATALOG")]
SitesOption = Annotated[
    Path | None,
    typer.Option(
        help="File of several catalogs (sites.toml), instead of --survey and --catalog.", envvar="VARSTAR_SITES"
    ),
]
ModelsOption = Annotated[str, typer.Option(help="Folder or URL where training leaves models.", envvar="VARSTAR_MODELS")]
NotifyOption = Annotated[
    str | None,
    typer.Option(
        help="Notification block, TYPE/NAME. [default: that of deploy/automations.yaml]", envvar="VARSTAR_NOTIFY"
    ),
]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Of the server, on 127.0.0.1.", envvar="VARSTAR_PORT")]
LimitOption = Annotated[
    int,
    typer.Option(min=1, help="Runs at once, of all deployments; sites.toml has its own.", envvar="VARSTAR_LIMIT"),
]

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def serve(
    survey: SurveyOption = None,
    catalog: CatalogOption = None,
    sites: SitesOption = None,
    models: ModelsOption = "models",
    folder: Annotated[Path, typer.Option(help="Where the server's database and the logs stand.")] = Path(
        "varstar-site"
    ),
    port: PortOption = 4200,
    limit: LimitOption = 2,
    notify: NotifyOption = None,
) -> None:
    """Run a small site on this machine: Prefect server, worker and the deployments; Ctrl-C stops it all.

    The nightly reclassification, the one that waits for releases and the weekly upkeep are scheduled from then on.
    """
    from varstar_batch.cli.serve import Service, serve_site

    deployed = _what_to_deploy(survey, catalog, sites, models, "", notify)
    serve_site(Service(folder=folder.resolve(), port=port, deployed=deployed, limit=limit))


def site(
    action: Annotated[
        Literal["install", "remove"], typer.Argument(help="Put it into systemd's hands, or take it out.")
    ],
    survey: SurveyOption = None,
    catalog: CatalogOption = None,
    sites: SitesOption = None,
    models: ModelsOption = "",
    port: PortOption = 4200,
    limit: LimitOption = 2,
    notify: NotifyOption = None,
    tap: Annotated[bool, typer.Option("--tap", help="And `varstar tap` for its catalogs.")] = False,
    prefix: Annotated[Path | None, typer.Option(help="Below this folder, for an image; nothing is started.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Let systemd run `varstar serve`: user, settings with the key (mode 600), units; again at will.

    As root for the whole machine, else for yourself alone (`systemctl --user`).
    """
    from varstar_batch.cli.install import install, place_of, remove

    place = place_of(prefix)
    if action == "remove":
        remove(place, dry=dry_run)
        return
    deployed = _what_to_deploy(survey, catalog, sites, models or "models", "", notify)
    values = {"SITES": sites.resolve()} if sites is not None else {}
    for _, one_survey, one_catalog in deployed.catalogs() if sites is None else ():
        values |= {"SURVEY": one_survey, "CATALOG": one_catalog}  # type: ignore[dict-item]
    optional = {"MODELS": models and _absolute(models), "NOTIFY": notify}
    named = {**values, "PORT": port, "LIMIT": limit, **{name: value for name, value in optional.items() if value}}
    install(deployed, {f"VARSTAR_{name}": str(value) for name, value in named.items()}, place, tap=tap, dry=dry_run)


def deploy(
    survey: SurveyOption = None,
    catalog: CatalogOption = None,
    sites: SitesOption = None,
    models: ModelsOption = "models",
    pool: Annotated[Literal["local", "kubernetes"], typer.Option(help="Processes of this machine, or pods.")] = "local",
    image: Annotated[str, typer.Option(help="Container image, for kubernetes.")] = "",
    notify: NotifyOption = None,
) -> None:
    """Bring a Prefect server that runs (PREFECT_API_URL) to what deploy/ says; again at will."""
    if pool == "kubernetes" and not image:
        expected = "--image with --pool kubernetes"
        raise InputError(expected=expected, got="none", where="--pool", fix="see `varstar deploy --help`")
    deployed = _what_to_deploy(survey, catalog, sites, models, image, notify)
    with prefect_client() as client:
        done = deployed.apply(client, pool)
    for name in done.deployments:
        say(f"deployment  {name}")
    for name in done.removed:
        say(f"removed     {name}")
    for name in done.automations:
        say(f"automation  {name}")
    if done.left_out:
        warning_line(
            f"left out, since there is no block {done.notify}: {', '.join(done.left_out)};"
            " make the block (deploy/automations.yaml says how) and deploy again"
        )


def _what_to_deploy(
    survey: str | None, catalog: str | None, sites: Path | None, models: str, image: str, notify: str | None
) -> OneCatalog | SeveralCatalogs:
    """Return what the options of `serve` and `deploy` say: one catalog, or those of a file."""
    from varstar_batch.flows.deploy import OneCatalog, SeveralCatalogs, Site
    from varstar_batch.flows.sites import read_sites

    if (sites is None) == (survey is None and catalog is None) or (survey is None) != (catalog is None):
        given = {"--sites": sites, "--survey": survey, "--catalog": catalog}
        raise InputError(
            expected="--survey and --catalog, or --sites",
            got=" and ".join(name for name, value in given.items() if value is not None) or "none of them",
            where="what to deploy",
            fix="one catalog: --survey SURVEY --catalog CATALOG; several: --sites sites.toml (deploy/README.md)",
        )
    if sites is not None:
        return SeveralCatalogs(read_sites(sites), image)
    assert survey is not None
    assert catalog is not None
    site = Site(survey=_absolute(survey), catalog=_absolute(catalog), models=_absolute(models), image=image)
    return OneCatalog(site, notify)


def doctor(
    pool: Annotated[str, typer.Option(help="Work pool that should have a worker.")] = "varstar-local",
    survey: SurveyOption = None,
    catalog: CatalogOption = None,
    sites: SitesOption = None,
    models: Annotated[
        str | None, typer.Option(help="Folder or URL of models that must be writable.", envvar="VARSTAR_MODELS")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Bundle. [default: the one that ships]")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler. [default: Dask's own configuration]")
    ] = None,
    tls_ca: Annotated[str | None, typer.Option(help="PEM file of the authority of its certificates.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of this client's certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the set-up, a line each: versions, server, storage, survey, GPU, cluster; exit code 1 if any is wrong."""
    from varstar_batch.cli.doctor import examine
    from varstar_batch.cli.doctor_server import ServerQuestions
    from varstar_batch.requests import ClusterOptions

    places = {"survey": survey, "catalog": catalog, "models": models}
    whole = sites is not None or (survey is not None and catalog is not None)
    deployed = _what_to_deploy(survey, catalog, sites, models or "models", "", None) if whole else None
    if sites is not None and deployed is not None:
        places |= {f"catalog {name}": each for name, _, each in deployed.catalogs()}
    questions = ServerQuestions(pool, deployed if models is not None or sites is not None else None)
    there = {name: url for name, url in places.items() if url is not None}
    options = ClusterOptions(tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key)
    failed = False
    checks = []
    for check in examine(questions, there, model, scheduler, options):
        failed |= check.state == "failed"
        checks.append(vars(check))
        if not as_json:
            fix = f" -> {check.fix}" if check.fix else ""
            print_fields({check.state: f"{check.name:<9} {check.found}{fix}"}, 8, COLOURS[check.state])
    if as_json:
        print_json(checks)
    if failed:
        raise typer.Exit(ExitCode.FAILURES)


def release(
    survey: Annotated[str, typer.Argument(help="Folder or URL of the survey whose release has landed.")],
    name: Annotated[str, typer.Option(help="Of the release, for example DR2.")],
) -> None:
    """Announce a release of SURVEY, or of a link to it: what waits for it starts (event `survey.release.published`)."""
    from varstar_batch.files.location import locate, same_place
    from varstar_batch.flows.events import release_event, surveys_waited_for

    place = _absolute(survey)
    location = locate(place, what="survey")
    if not (location.is_file() or location.children()):
        raise InputError(expected="a survey", got="nothing there", where=place, fix="check the path")
    with prefect_client() as client:
        waiting = surveys_waited_for(client)
        waited_for = next((each for each in sorted(waiting) if same_place(each, place)), None)
        if waited_for is None:
            raise RefusedError(
                expected="a survey whose releases a deployment waits for: " + (", ".join(sorted(waiting)) or "none"),
                got=place,
                where="varstar release",
                fix="`varstar deploy --survey SURVEY --catalog CATALOG` makes deployments for another survey",
            )
        client.request("POST", "/events", json=[release_event(waited_for, name)]).raise_for_status()
    say(f"Announced release {name} of {place}")


def _absolute(place: str) -> str:
    """Return a path that means the same wherever a run starts; URLs are left as they are."""
    return place.rstrip("/") if "://" in place else os.path.abspath(place)  # noqa: PTH100 (keeps links as they are)
