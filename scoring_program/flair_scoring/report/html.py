"""Self-contained HTML pages: one style for light, dark, wide and narrow screens; no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --soft: #5c6675; --line: #d9dee5; --back: #ffffff;
  --heat: 31 98 184; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8ebef; --soft: #a0a9b6; --line: #363e49; --back: #14181d; --heat: 92 156 235; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--back); }
h1 { font-size: 1.4rem; margin: 0 0 1rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { max-width: 44rem; } .soft { color: var(--soft); }
.score { font-size: 3rem; line-height: 1.1; font-weight: 650; font-variant-numeric: tabular-nums; margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .28rem .6rem; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); } tbody th { color: var(--text); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
.bar { min-width: 8rem; } .bar div div { height: .8rem; border: 1px solid var(--line); }
.bar div { position: relative; box-sizing: border-box; }
.bar i { position: absolute; top: -.2rem; height: 1.2rem; border-left: 2px solid var(--text); }
figure { display: inline-block; vertical-align: top; margin: 0 .6rem .6rem 0; width: 13rem; }
figure img { width: 100%; }
figcaption { font-size: .85rem; color: var(--soft); }
.legend span { display: inline-block; margin-right: .9rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border: 1px solid var(--line); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.heat td { text-align: center; padding: .28rem .35rem; }
.heat td { background: rgb(var(--heat) / calc(var(--share) * .75)); }
.heat thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; border: 0; }
.heat td b { font-weight: 700; text-decoration: underline; } td.text { text-align: left; }
.sortable thead th { cursor: pointer; } [aria-sort=descending]::after { content: " ▾"; }
[aria-sort=ascending]::after { content: " ▴"; }
svg { display: block; width: 100%; min-width: 40rem; max-width: 60rem; font-size: 13px; fill: var(--text); }
svg line, svg polyline { stroke: var(--line); fill: none; } svg .mark { stroke-width: 2; }
svg .mark, svg .front { stroke: rgb(var(--heat)); } svg .limit { stroke: #c2410c; stroke-dasharray: 4 3; }
svg circle, svg rect { fill: rgb(var(--heat)); } svg circle.soft { fill: var(--soft); }
.heat thead th:first-child { writing-mode: initial; transform: none; vertical-align: bottom; }
"""


class Markup(str):
    """A string that is HTML already, so it is not escaped again."""


def render_page(title: str, *parts: str, script: str = "", style: str = "") -> str:
    """A whole page: `title` as its heading, `parts`, which are HTML, a script, and CSS of this page alone."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>\n<style>{_STYLE}{style}</style>\n<body>\n<h1>{_escape(title)}</h1>\n"
        + "\n".join(parts)
        + (f"\n<script>{script}</script>" if script else "")
        + "\n</body>\n</html>\n"
    )


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of `text`, escaped."""
    return f"<p{_class(style)}>{_escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> str:
    """A table, which scrolls sideways if the screen is too narrow.

    The first cell of each row is its heading. Cells are escaped, except those of type Markup: each of them is
    a whole <th> in `head` and a whole <td> in `rows`.
    """
    titles = "".join(cell if isinstance(cell, Markup) else f"<th>{_escape(cell)}</th>" for cell in head)
    lines = [f'<div class="wide"><table{_class(style)}>', f"<thead><tr>{titles}</tr></thead>", "<tbody>"]
    for first, *cells in rows:
        filled = "".join(cell if isinstance(cell, Markup) else f"<td>{_escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th>{_escape(first)}</th>{filled}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def bar(share: float, colour: str = "rgb(var(--heat))", mark: float | None = None) -> Markup:
    """A cell with a bar as wide as `share` (0..1) of it, and a vertical line at `mark` (0..1) if given."""
    line = "" if mark is None else f'<i style="left:{mark:.1%}"></i>'
    filled = f'<div style="width:{share:.1%};background:{_escape(colour)}"></div>'
    return Markup(f'<td class="bar"><div class="all">{filled}{line}</div></td>')


def heat(share: float, hint: str) -> Markup:
    """A cell with `share` (0..1) in per cent; its colour is stronger for a larger share."""
    return Markup(f'<td style="--share:{share:.3f}" title="{_escape(hint)}">{100 * share:.0f}</td>')


def picture(content: bytes, kind: str, caption: str) -> Markup:
    """An image of the media type `kind`, stored inside the page, and its caption."""
    data = base64.b64encode(content).decode()
    return Markup(
        f'<figure><img alt="{_escape(caption)}" src="data:{kind};base64,{data}">'
        f"<figcaption>{_escape(caption)}</figcaption></figure>"
    )


def heading(text: str) -> str:
    """The title of a section, escaped."""
    return f"<h2>{_escape(text)}</h2>"


def bullets(items: Iterable[str]) -> str:
    """A list of sentences, escaped."""
    return f"<ul>{''.join(f'<li>{_escape(item)}</li>' for item in items)}</ul>"


def preformatted(text: str) -> str:
    """Lines of a log or of a message, escaped, in letters of one width; long lines are wrapped."""
    return f"<pre>{_escape(text)}</pre>"


def folded_section(title: str, *parts: str) -> str:
    """A section that is closed until the reader opens it; a printed page shows it."""
    content = "\n".join(parts)
    return f"<details><summary><h2>{_escape(title)}</h2></summary>\n{content}\n</details>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _escape(text: str) -> str:
    """Escape text as HTML; replace characters that control a terminal or the direction of writing."""
    return html.escape(
        "".join(
            sign if sign.isprintable() or sign.isspace() else "\N{REPLACEMENT CHARACTER}" for sign in text
        )
    )
