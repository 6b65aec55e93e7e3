"""The style of the pages of one result, beside the one that all pages have."""

RESULT_STYLE = """
body { max-width: 72rem; } h1 { margin-bottom: 0; } h1 + p { margin-top: .2rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.4rem 0 .2rem; }
ul { padding-left: 1.2rem; max-width: 44rem; } li { margin: .2rem 0; }
h3 + p, h3 + p.soft { margin-top: 0; } p.soft:has(+ .score) { margin-bottom: 0; }
.lead { font-size: 1.15rem; }
.summary { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1.2rem 2.5rem;
  margin: 1.4rem 0 2.4rem; }
.summary p { margin: 0; } .summary .second { font-size: 1.9rem; line-height: 3.3rem; font-weight: 600;
  font-variant-numeric: tabular-nums; } .second small { font-size: 1rem; font-weight: 400; }
.gauge { position: relative; max-width: 24rem; height: .7rem; margin: .5rem 0 .4rem;
  background: var(--line); }
.gauge b { position: absolute; inset: 0 auto 0 0; min-width: 2px; background: rgb(var(--heat)); }
.gauge i { position: absolute; top: -.25rem; bottom: -.25rem; border-left: 2px solid var(--warn);
  box-shadow: 0 0 0 1px var(--back); }
.chart { width: 100%; } .chart .track, .chart .scale { width: 45%; min-width: 7.5rem; padding: .25rem 1rem; }
.track > div { position: relative; height: .95rem; background-repeat: no-repeat;
  background-image: linear-gradient(var(--line), var(--line)), linear-gradient(var(--line), var(--line)),
  linear-gradient(var(--line), var(--line)); background-size: 1px 100%; background-position: 0, 50%, 100%; }
.track b { position: absolute; top: .1rem; bottom: .1rem; box-sizing: border-box; }
.share b { left: 0; border: 1px solid rgb(128 128 128 / .5); }
.track i { position: absolute; top: -.1rem; bottom: -.1rem; margin-left: -1px;
  border-left: 2px solid var(--text); }
.signed { background-image: linear-gradient(var(--soft), var(--soft)) !important;
  background-position: 50% !important; }
.swatch { display: inline-block; width: .8rem; height: .8rem; margin: 0 .35rem 0 0; vertical-align: -.08em; }
.swatch ~ .swatch { margin-left: .3rem; }
.gain { background: rgb(var(--heat)); } .loss { background: var(--warn); }
.ticks { position: relative; height: 1.25rem; line-height: 1.25rem; font-weight: 400; }
.ticks span { position: absolute; white-space: nowrap; }
.chart td, .chart tbody th { vertical-align: middle; } .chart tbody th { overflow-wrap: break-word; }
.chart thead th { vertical-align: bottom; }
.heat thead th:first-child { padding-left: .6rem; }
.ticks .middle { transform: translateX(-50%); } .ticks .end { transform: translateX(-100%); }
.mark { display: inline-block; height: 1em; border-left: 2px solid var(--text); margin: 0 .5em 0 .1em;
  vertical-align: -.1em; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1.2rem 2.5rem; align-items: start; }
.pair > div { min-width: 0; } .pair > .whole { grid-column: 1 / -1; }
.pair th, .pair td { padding-left: .4rem; padding-right: .4rem; }
.legend { max-width: none; margin: .3rem 0; font-size: .9rem; }
.legend span { display: inline-block; margin-right: .9rem; white-space: nowrap; }
.legend b { font-weight: 600; margin-right: .9rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border: 1px solid var(--line);
  margin-right: .35rem; vertical-align: -.08em; }
.row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .6rem; margin: .3rem 0 1rem;
  break-inside: avoid; }
.row figure { margin: 0; } .row img { display: block; width: 100%; }
figcaption { font-size: .85rem; color: var(--soft); }
.bins { display: flex; align-items: end; height: 9rem; gap: 1px; border-bottom: 1px solid var(--soft);
  border-top: 1px solid var(--line); position: relative; }
.bins b { flex: 1; background: rgb(var(--heat)); } .bins i { position: absolute; top: 0; bottom: 0;
  border-left: 2px dashed var(--warn); }
.histogram { max-width: 44rem; } .histogram p { margin: 0; font-size: .85rem; }
.histogram .title { text-align: center; }
.histogram .ticks { font-size: .85rem; font-variant-numeric: tabular-nums; color: var(--soft); }
details { margin-top: 2.2rem; }
summary h2 { display: inline; color: var(--text); }
details > :nth-child(2) { margin-top: .8rem; }
.facts th { vertical-align: top; } .facts th:first-child { white-space: normal; }
pre { font: .85rem/1.5 ui-monospace, monospace; white-space: pre-wrap;
  border-left: 3px solid var(--line); padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
@media (max-width: 40rem) {
  .row { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  th, td { padding-left: .4rem; padding-right: .4rem; }
  .wide th:first-child { white-space: normal; max-width: 7.5rem; }
  .chart .track, .chart .scale { padding: .25rem .6rem; min-width: 7rem; }
  .summary .second { line-height: 2.6rem; } }
@media (min-width: 40.01rem) { .row ~ .row figcaption { display: none; } }
@media print { body { max-width: none; } h3 { break-after: avoid; } .bins { break-inside: avoid; }
  summary { list-style: none; } }
"""
