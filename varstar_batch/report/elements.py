"""What the pages are made of: the document around them, cards, grids, notes and tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files


def document(title: str, body: str) -> str:
    """Return a page as the text of an HTML file that loads nothing from anywhere; `body` is HTML, `title` is text."""
    style = files(__package__).joinpath("style.css").read_text()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # The browser itself holds the page to its word that it loads nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def card(content: str, title: str = "") -> str:
    """Return a card of the page, with a title where one is given."""
    return f'<div class="card">{f"<h3>{title}</h3>" if title else ""}{content}</div>'


def grid(*cards: str, kind: str) -> str:
    """Return cards beside each other; `kind` is ``"two"`` or ``"strip"``."""
    return f'<div class="grid {kind}">{"".join(cards)}</div>'


def note(text: str) -> str:
    """Return a paragraph in a soft colour."""
    return f'<p class="note">{text}</p>'


def swatch(colour: str) -> str:
    """Return a dot of a colour, before a name."""
    return f'<span class="swatch" style="background:{colour}"></span>'


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), numbers: Sequence[int] = ()) -> str:
    """Return a table of texts; the columns of numbers are set to the right."""
    kinds = ["" if k in numbers else ' class="text"' for k in range(max(map(len, [head, *rows])))]
    names = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, head, strict=bool(head)))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(text)}</td>' for kind, text in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    thead = f"<thead><tr>{names}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="list">{thead}<tbody>{body}</tbody></table></div>'
