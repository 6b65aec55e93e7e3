"""What only the page of a leaderboard needs: its style, and the script that sorts its tables."""

from __future__ import annotations

STYLE = """
body { max-width: 80rem; }
.about { margin: -.6rem 0 1.6rem; max-width: none; font-size: .9rem; }
.about span { display: inline-block; margin-right: 1.1rem; }
.lead { font-size: 1.2rem; line-height: 1.4; max-width: 54rem; margin: 0 0 1.2rem; }
.lead b, .board .miou { font-weight: 650; } .lead b { unicode-bidi: isolate; }
.board th, .board td { padding: .3125rem .5rem; vertical-align: middle; }
.board thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
.board tr.leader > * { background: var(--band); }
.board tr.last > * { border-bottom: 2px solid rgb(var(--heat)); }
.board.sorted tr.last > * { border-bottom: 1px solid var(--line); }
.board .rank, .board .name { position: sticky; left: 0; z-index: 1; background: var(--back); }
.board .rank { text-align: right; box-sizing: border-box; width: 3.2rem; min-width: 3.2rem; }
.board .name { left: 3.2rem; text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 11rem; max-width: 20rem; }
.board tr.leader .name, .board tr.leader .rank { background: var(--band); }
.board tfoot td, .board tfoot .name { font-weight: 400; color: var(--soft); border: 0; }
.board .plot { position: relative; width: 13rem; min-width: 13rem; padding: 0; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; min-width: 0; overflow: visible;
  font-size: .75rem; font-weight: 400; fill: var(--soft); }
.sortable thead th.up, .sortable thead th.down { cursor: pointer; }
.sortable thead th:hover, .sortable thead th:focus-visible { color: var(--text); }
[aria-sort] { color: var(--text); }
[aria-sort=descending]::after { content: " ▾"; } [aria-sort=ascending]::after { content: " ▴"; }
.heat tbody th, .names tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 11rem;
  max-width: 20rem; }
.entries tbody th { font-weight: 600; }
.heat td { min-width: 2.6rem; vertical-align: middle; } .heat tbody th { vertical-align: middle; }
.heat thead th.down { padding-left: 1.2rem; }
.heat th:first-child, .names th:first-child { padding-left: 0; }
.pairs thead th { writing-mode: initial; transform: none; text-align: center; }
.pairs td.same { background: none; }
@media (max-width: 40rem) {
  .board .plot { width: 8rem; min-width: 8rem; } .plot .minor { display: none; }
  .lead { font-size: 1.1rem; }
  .board .rank { width: 2.9rem; min-width: 2.9rem; padding-left: 0; } .board .name { left: 2.9rem; }
  .board .name, .heat tbody th, .names:not(.entries) tbody th { box-shadow: 1px 0 var(--line); }
  .board .name, .heat tbody th, .names tbody th { min-width: 7.5rem; max-width: 8.5rem; }
  .entries, .entries tbody, .entries tr, .entries th, .entries td { display: block; max-width: none; }
  .entries thead { display: none; } .entries tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .entries tbody th, .entries td { border: 0; padding: .1rem 0; white-space: normal; max-width: none; } }
@page { size: A4 landscape; }
@media print { .board .rank, .board .name { position: static; } tfoot { display: table-row-group; }
  [aria-sort]::after { content: none; } }
"""

# A heading of the class "text" sorts by the alphabet, with the numbers in names by their size. "up" and
# "down" tell whether the smallest or the largest comes first at the first click.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.matches(".up, .down")) return;
    const number = text => parseFloat(text.replace(/[^0-9.-]/g, ""));
    const sort = () => {
      const before = head.getAttribute("aria-sort") ?? (head.matches(".up") ? "descending" : "ascending");
      const falling = before === "ascending";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [a, b].map(row => row.cells[column].textContent);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = head.matches(".text")
          ? x.localeCompare(y, "en", {numeric: true}) : number(x) - number(y);
        return falling ? -order : order;
      });
      body.append(...rows);
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      table.classList.toggle("sorted", column > 0 || falling);
    };
    head.tabIndex = 0;
    head.title = "sort by this column";
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
"""
