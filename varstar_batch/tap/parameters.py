"""What clients send: parameters in any case, in the address or in the body of a form, and never large."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest

from varstar_batch.errors import InputError
from varstar_batch.tap.engine import Query
from varstar_batch.tap.request import TapRequest
from varstar_batch.tap.votable import format_of

LARGEST_BODY = 2**17
"""Bytes."""

_LANGUAGES = {"adql", "adql-2.0", "adql-2.1"}


async def parameters_of(request: HttpRequest) -> dict[str, str]:
    """Return the parameters by name in upper case; of one that is there several times the last.

    Raises
    ------
    InputError
        The body is too large, or no form.
    """
    pairs = parse_qsl(request.url.query, keep_blank_values=True)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise InputError(
                expected=f"at most {LARGEST_BODY:,} bytes", got="more", where="the request", fix="ask more shortly"
            )
    if body and kind != "application/x-www-form-urlencoded":
        raise InputError(
            expected="a form (application/x-www-form-urlencoded)",
            got=kind[:60] or "no type",
            where="the request",
            fix="tables cannot be uploaded here",
        )
    pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name.upper(): value for name, value in pairs}


def query_of(parameters: Mapping[str, str], request: TapRequest, timeout: float | None = None) -> Query:
    """Return what the parameters of TAP ask for. Raises InputError."""
    asked = parameters.get("REQUEST", "doQuery")
    if asked != "doQuery":
        raise _wrong("REQUEST", "doQuery", asked)
    language = parameters.get("LANG", "")
    if language.lower() not in _LANGUAGES:
        raise _wrong("LANG", "ADQL", language or "nothing")
    if parameters.get("UPLOAD"):
        raise _wrong("UPLOAD", "a query of the tables that are here", "a table")
    if not parameters.get("QUERY", "").strip():
        raise _wrong("QUERY", "a query", "nothing")
    form = format_of(parameters.get("RESPONSEFORMAT") or parameters.get("FORMAT") or "votable")
    return Query(parameters["QUERY"], form, maxrec_of(parameters, request), timeout or request.limits.timeout)


def maxrec_of(parameters: Mapping[str, str], request: TapRequest) -> int:
    """Return how many rows are wanted. Raises InputError."""
    text = parameters.get("MAXREC", str(min(request.maxrec, request.most_rows)))
    if not text.isascii() or not text.isdigit():
        raise _wrong("MAXREC", "a whole number, 0 or more", text)
    return min(int(text[:18]), request.most_rows)


def number_of(parameters: Mapping[str, str], name: str) -> float:
    """Return a number of Simple Cone Search. Raises InputError."""
    try:
        return float(parameters[name])
    except (KeyError, ValueError):
        raise _wrong(name, "a number of degrees", parameters.get(name, "nothing")) from None


def _wrong(name: str, expected: str, got: str) -> InputError:
    return InputError(expected=expected, got=got[:60], where=name, fix="see the service's page")
