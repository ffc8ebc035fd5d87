"""The options of a command, made from the fields of the request that it carries out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial, wraps
from types import MappingProxyType
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from varstar_batch.cli.console import format_bytes, parse_bytes
from varstar_batch.errors import InputError, wanted
from varstar_batch.requests import BYTES, Request

R = TypeVar("R", bound=Request)
P = ParamSpec("P")

CLUSTER, ADVANCED = "Cluster", "Advanced"
"""Headings of the options that few need; the others come first."""

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="TOML file: [survey], [preprocessing], engine, ...")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="KEY=VALUE on top of it: survey.mag=Vmag.")]
SurveyArgument = Annotated[str, typer.Argument(help="Folder or URL of a survey.")]
CatalogArgument = Annotated[str, typer.Argument(help="Folder or URL of a catalog.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Which run. [default: the current one]")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "from_bundle": ("--from",),
        "label_table": ("--labels",),
        "insecure": ("--insecure-scheduler",),
        "column_names": ("--columns",),
        "band": ("--band", "--bands"),
        "bands": ("--band", "--bands"),
        "model": ("--model", "-m"),
        "out": ("--out", "-o"),
        "workers": ("--workers", "-w"),
    }
)
"""Options that are not called as their field, or that have a short name."""


@dataclass(frozen=True)
class _Option:
    """A parameter of a command, and the field that takes its value."""

    path: tuple[str, ...]
    parameter: inspect.Parameter
    read: Callable[[Any], Any] | None = None
    """Takes what people write, where that is not the value itself."""

    def under(self, panel: str) -> inspect.Parameter:
        """Return the parameter, an option, under a heading of the command's help."""
        kind, asked = get_args(self.parameter.annotation)
        asked = copy(asked)
        asked.rich_help_panel = panel
        return self.parameter.replace(annotation=Annotated[kind, asked])


def takes(
    model: type[R],
    *,
    arguments: Collection[str] = (),
    common: Sequence[str] | None = None,
    leave_out: Collection[str] = (),
    settings: Collection[str] = (),
) -> Callable[[Callable[Concatenate[R, P], None]], Callable[..., None]]:
    """Decorate ``command(request, ...)`` so that Typer asks for the fields of the request one by one.

    Whatever nobody gives is as the model has it. A field of configuration becomes --config and --set.

    Parameters
    ----------
    model : type of Request
    arguments : collection of str
        Fields that are positional, in this order; the others are options.
    common : sequence of str, optional
        Options that most people need, in this order; the others stand below them, those of a cluster by themselves.
        All are common where nobody says it.
    leave_out : collection of str
        Fields that the command line does not ask for.
    settings : collection of str
        Fields of `RunConfig` that have options of their own, which win over --set.
    """

    def decorate(command: Callable[Concatenate[R, P], None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        options = {option.parameter.name: option for option in _options(model, arguments, settings, (), leave_out)}
        first = [options[name].parameter for name in arguments]
        others = [name for name in options if name not in arguments]
        shown = others if common is None else common
        below = [options[name] for name in others if name not in shown]
        mine = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parameters = [*first, *(options[name].parameter for name in shown), *mine]
        parameters += [option.under(_panel(option)) for option in below]

        @wraps(command)
        def with_options(**given: Any) -> None:
            rest = {each.name: given.pop(each.name) for each in own}
            command(_request(model, options, given), **rest)  # type: ignore[call-arg]

        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def _panel(option: _Option) -> str:
    return CLUSTER if option.path[0] in {"cluster", "scheduler"} else ADVANCED


def _options(
    model: type[Any],
    arguments: Collection[str],
    settings: Collection[str],
    path: tuple[str, ...],
    leave_out: Collection[str] = (),
) -> Iterator[_Option]:
    for name, field in model.model_fields.items():
        here, kind = (*path, name), field.annotation
        if name in leave_out:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Request):
            yield from _configured(here, kind, settings, with_bands="band" not in model.model_fields)
        elif isinstance(kind, type) and issubclass(kind, Request):
            yield from _options(kind, (), (), here)
        else:
            yield _option(here, field, name in arguments)


def _configured(
    path: tuple[str, ...], kind: type[BaseModel], settings: Collection[str], *, with_bands: bool
) -> Iterator[_Option]:
    """Yield the options of a configuration: --config, --set, and those that some of its fields have."""
    # Here, since the questions to a catalog, which have no configuration, would wait for them.
    from varstar_batch.runs.config import RunConfig
    from varstar_batch.survey.columns import SurveyConfig

    yield _Option(path, _parameter("config", ConfigOption))
    yield _Option(path, _parameter("set_", SetOption))
    chosen = settings if kind is RunConfig else ()
    yield from (_option((*path, each), RunConfig.model_fields[each], False) for each in chosen)
    if with_bands:
        yield _option((*path, "survey", "bands"), SurveyConfig.model_fields["bands"], False)


def _option(path: tuple[str, ...], field: FieldInfo, positional: bool) -> _Option:
    """Return the parameter for a field; its default is None, which leaves the field as the model has it."""
    name = path[-1]
    kind: Any = field.annotation
    default = None if field.is_required() or isinstance(field.default, bool) else field.default
    bounds: dict[str, Any] = {}
    for each in field.metadata:
        bounds |= {word: getattr(each, key) for key, word in (("ge", "min"), ("le", "max")) if hasattr(each, key)}
    read: Callable[[str], Any] | None = None
    if BYTES in field.metadata or BYTES in _metadata(kind):
        read, kind, bounds = partial(parse_bytes, option=_flag(name)), str, {"metavar": "<size>"}
        default = default and format_bytes(default)
    elif get_origin(kind) is tuple and positional:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    elif get_origin(kind) is tuple:
        read, kind, default = _listed, str, ",".join(default or ()) or None
    text = f"{field.description}." if default in {None, "", ()} else f"{field.description}. [default: {default}]"
    # Named, a flag has no --no-... beside it: what nobody says is off.
    names = NAMES.get(name, (_flag(name),))
    asked = typer.Argument(help=text, **bounds) if positional else typer.Option(*names, help=text, **bounds)
    annotation: Any = kind if field.is_required() else kind | None
    return _Option(path, _parameter(name, Annotated[annotation, asked], required=field.is_required()), read)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _parameter(name: str, kind: Any, *, required: bool = False) -> inspect.Parameter:
    default = inspect.Parameter.empty if required else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _metadata(kind: Any) -> tuple[Any, ...]:
    return tuple(word for part in get_args(kind) for word in getattr(part, "__metadata__", ()))


def _flag(name: str) -> str:
    """Return an option as people write it."""
    return NAMES.get(name, ("--" + name.replace("_", "-"),))[0]


def _request(model: type[R], options: Mapping[str, _Option], given: Mapping[str, Any]) -> R:
    """Return the request that the values of a command line make up."""
    values: dict[str, Any] = {}
    for name, option in options.items():
        value = given[name]
        if value is None or name in {"config", "set_", "preset"}:
            continue
        into = values
        for part in option.path[:-1]:
            into = into.setdefault(part, {})
        into[option.path[-1]] = value if option.read is None else option.read(value)
    if "config" in options:
        path = options["config"].path
        values[path[-1]] = _configuration(model, path[-1], given, values.get(path[-1], {}))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = _flag(str(problem["loc"][-1])) if problem["loc"] else "options"
        raise InputError(
            expected=wanted(problem),
            got="none" if problem["type"] == "missing" else repr(problem["input"]),
            where=where,
            fix="see the command's --help",
        ) from None


def _configuration(model: type[Request], name: str, given: Mapping[str, Any], settings: Mapping[str, Any]) -> BaseModel:
    from varstar_batch.runs.config import RunConfig, load_config

    preset = given.get("preset")
    before = {"survey": {"preset": preset}} if preset else {}
    config = load_config(given["config"], given["set_"] or (), before=before, after=settings)
    return config if model.model_fields[name].annotation is RunConfig else config.survey
