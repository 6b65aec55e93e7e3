"""Self-contained HTML pages: one style for light, dark, wide and narrow screens; no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --soft: #5c6675; --line: #dde2e9; --back: #ffffff;
  --band: #edf3fb; --heat: 31 98 184; --warn: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8ebef; --soft: #a0a9b6; --line: #343c47; --back: #14181d;
    --band: #1b2838; --heat: 92 156 235; --warn: #f08a5d; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 2.6rem 0 .6rem; }
p { max-width: 44rem; margin: .6rem 0; } .soft { color: var(--soft); }
.score { font-size: 3rem; line-height: 1.1; font-weight: 650; font-variant-numeric: tabular-nums; margin: 0; }
summary { cursor: pointer; color: var(--soft); } details { margin: .6rem 0; }
.wide { overflow-x: auto; overflow-y: hidden; }
/* The right edge fades out while there is more to see by scrolling sideways. */
@keyframes more { from, 98% { mask-image: linear-gradient(to left, transparent, #000 2.5rem); }
  to { mask-image: linear-gradient(to left, #000, #000 2.5rem); } }
@supports (animation-timeline: scroll()) { @media screen { .wide { animation: more linear both;
  animation-timeline: scroll(self inline); } } }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; font-size: .875rem;
  line-height: 1.25rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody th { color: var(--text); font-weight: 500; vertical-align: baseline; }
td { vertical-align: baseline; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
th:first-child { position: sticky; left: 0; z-index: 1; background: var(--back); }
.long { white-space: normal; min-width: 14rem; max-width: 44rem; overflow-wrap: anywhere; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.heat td { text-align: center; padding: .25rem .35rem; }
.heat td { background: rgb(var(--heat) / calc(var(--share) * .55)); }
.heat thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; border: 0;
  padding: .35rem .35rem .35rem .2rem; }
.heat td b { font-weight: 750; }
.heat thead th:first-child { writing-mode: initial; transform: none; vertical-align: bottom; }
svg { display: block; width: 100%; min-width: 44rem; max-width: 60rem; font-size: 13px; fill: var(--text); }
svg line, svg polyline { stroke: var(--line); fill: none; } svg .mark { stroke-width: 2; }
svg .mark, svg .front { stroke: rgb(var(--heat)); }
svg line.limit { stroke: var(--warn); stroke-dasharray: 4 3; } svg text.limit { fill: var(--warn); }
svg circle, svg rect { fill: rgb(var(--heat)); } svg circle.soft { fill: var(--soft); }
svg text { paint-order: stroke; stroke: var(--back); stroke-width: 3px; stroke-linejoin: round; }
svg text.soft { fill: var(--soft); }
@media (max-width: 40rem) { h1 { font-size: 1.3rem; } tbody th:first-child { white-space: normal;
  min-width: 6.5rem; max-width: 9rem; overflow-wrap: anywhere; } }
@page { margin: 12mm; }
@media print {
  :root { color-scheme: light; --text: #000000; --soft: #4a5360; --line: #c9d0d9; --back: #ffffff;
    --band: #edf3fb; --heat: 31 98 184; --warn: #c2410c; }
  html { font-size: 11px; } body { font-size: 11px; padding: 0; max-width: none; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } p { orphans: 3; widows: 3; }
  .wide { overflow: visible; } th:first-child { position: static; } svg { min-width: 0; }
  h1, h2, summary { break-after: avoid; } tr, figure, svg { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  tbody th, .long { white-space: normal; overflow-wrap: anywhere; } }
"""


class Markup(str):
    """A string that is HTML already, so it is not escaped again."""


def render_page(title: str, *parts: str, script: str = "", style: str = "") -> str:
    """A whole page: `title` as its heading, `parts`, which are HTML, a script, and CSS of this page alone."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape_text(title)}</title>\n<style>{_STYLE}{style}</style>\n<body>\n<h1>{escape_text(title)}</h1>\n"
        + "\n".join(parts)
        + (f"\n<script>{script}</script>" if script else "")
        + "\n</body>\n</html>\n"
    )


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of `text`, escaped."""
    return f"<p{_class(style)}>{escape_text(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> str:
    """A table, which scrolls sideways if the screen is too narrow.

    The first cell of each row is its heading. Cells are escaped, except those of type Markup: each of them is
    a whole <th> in `head` and a whole <td> in `rows`.
    """
    titles = "".join(cell if isinstance(cell, Markup) else f"<th>{escape_text(cell)}</th>" for cell in head)
    lines = [f'<div class="wide"><table{_class(style)}>', f"<thead><tr>{titles}</tr></thead>", "<tbody>"]
    for first, *cells in rows:
        filled = "".join(
            cell if isinstance(cell, Markup) else f"<td>{escape_text(cell)}</td>" for cell in cells
        )
        lines.append(f"<tr><th>{escape_text(first)}</th>{filled}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def cell(text: str, style: str = "text", tag: str = "td") -> Markup:
    """A cell of `text`, escaped. Of the styles, "text" is left-aligned; "long" also wraps its lines."""
    return Markup(f"<{tag}{_class(style)}>{escape_text(text)}</{tag}>")


def folded(summary: str, *parts: str) -> str:
    """`parts`, which are HTML, behind a line that opens them; a printed page shows them opened.

    `summary` is escaped, unless it is Markup, such as a `heading`.
    """
    line = summary if isinstance(summary, Markup) else escape_text(summary)
    return f"<details><summary>{line}</summary>\n" + "\n".join(parts) + "\n</details>"


def heat(share: float, hint: str) -> Markup:
    """A cell with `share` (0..1) in per cent; its colour is stronger for a larger share."""
    return Markup(f'<td style="--share:{share:.3f}" title="{escape_text(hint)}">{100 * share:.0f}</td>')


def picture(content: bytes, kind: str, caption: str) -> Markup:
    """An image of the media type `kind`, stored inside the page, and its caption."""
    data = base64.b64encode(content).decode()
    return Markup(
        f'<figure><img alt="{escape_text(caption)}" src="data:{kind};base64,{data}">'
        f"<figcaption>{escape_text(caption)}</figcaption></figure>"
    )


def heading(text: str) -> Markup:
    """The title of a section, escaped."""
    return Markup(f"<h2>{escape_text(text)}</h2>")


def bullets(items: Iterable[str]) -> str:
    """A list of sentences, escaped."""
    return f"<ul>{''.join(f'<li>{escape_text(item)}</li>' for item in items)}</ul>"


def preformatted(text: str) -> str:
    """Lines of a log or of a message, escaped, in letters of one width; long lines are wrapped."""
    return f"<pre>{escape_text(text)}</pre>"


def with_noun(number: int, one: str, many: str) -> str:
    """A number with its noun, as "1 patch" and "1,250 patches"."""
    return f"{number:,} {one if number == 1 else many}"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def escape_text(text: str) -> str:
    """Escape text as HTML; replace characters that control a terminal or the direction of writing."""
    return html.escape(
        "".join(
            sign if sign.isprintable() or sign.isspace() else "\N{REPLACEMENT CHARACTER}" for sign in text
        )
    )
