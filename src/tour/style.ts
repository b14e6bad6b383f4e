/** The look of the tour's page: one column, one typographic scale, light and dark. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --card: #ffffff; --ink: #1d1f24; --soft: #5d626d; --line: #e3e1dc;
  --accent: #3457d5; --good: #14795a; --bad: #a84a12; --code: #f3f1ec;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14161a; --card: #1c1f25; --ink: #e8e9ec; --soft: #a2a8b4; --line: #31353d;
    --accent: #8ea6ff; --good: #5fd0a4; --bad: #f0a36b; --code: #23262d;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); }
main { max-width: 66rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .5rem; }
h2 { font-size: 1.375rem; line-height: 1.3; letter-spacing: -.01em; margin: 0; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); text-underline-offset: .15em; }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.lead { font-size: 1.125rem; color: var(--soft); }
.soft, figcaption, dt, .from { color: var(--soft); font-size: .875rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.5rem; margin: 1.5rem 0; }
.head { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; justify-content: space-between; }
.time { font-variant-numeric: tabular-nums; color: var(--soft); white-space: nowrap; }
.from { margin: .25rem 0 0; }
.claim { border-left: 3px solid var(--accent); padding: .125rem 0 .125rem .875rem; margin: 1rem 0; }
.claim b { display: block; font-size: .875rem; color: var(--soft); font-weight: 400; }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.number { border: 1px solid var(--line); border-radius: 10px; padding: .75rem .875rem; margin: 0; }
.number dd { margin: 0; }
.value { font-size: 1.375rem; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; }
.against { font-size: .875rem; color: var(--soft); }
.ahead { color: var(--good); } .behind { color: var(--bad); }
figure { margin: 1.5rem 0; }
figcaption { max-width: 46rem; margin-top: .5rem; }
.sheet { display: grid; width: fit-content; max-width: 100%; column-gap: .625rem; }
.sheet img { display: block; width: 100%; height: auto; grid-column: 1; grid-row: 2; min-width: 0; }
.columns { grid-column: 1; grid-row: 1; display: grid; font-size: .8125rem; color: var(--soft); text-align: center; line-height: 1.25; align-items: end; padding-bottom: .125rem; }
.columns span { min-width: 0; overflow-wrap: anywhere; padding: 0 .125rem; }
.headed img, .headed .columns { grid-column: 2; }
.rows { grid-column: 1; grid-row: 2; display: grid; font-size: .8125rem; color: var(--soft); align-items: center; line-height: 1.2; }
svg { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; width: 100%; }
th { font-weight: 500; color: var(--soft); font-size: .875rem; }
th, td { padding: .5rem .75rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
.overview th, .overview td { text-align: left; } .overview th:last-child, .overview td:last-child { text-align: right; white-space: nowrap; }
.overview td:first-child { white-space: nowrap; }
figure table { width: auto; }
pre { background: var(--code); border-radius: 10px; padding: .875rem 1rem; overflow-x: auto; margin: .5rem 0 0; font: .875rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.next { margin-top: 1.25rem; }
.failed { color: var(--bad); }
footer { color: var(--soft); font-size: .875rem; }
@media (max-width: 40rem) {
  main { padding: 1.75rem .875rem 2.5rem; }
  h1 { font-size: 1.625rem; }
  .card { padding: 1rem; border-radius: 12px; margin: 1rem 0; }
  .numbers { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .5rem; }
  .columns, .rows { font-size: .6875rem; }
  .sheet { column-gap: .375rem; }
  .tilted .columns { align-items: end; }
  .tilted .columns span { writing-mode: vertical-rl; transform: rotate(180deg); justify-self: center; white-space: nowrap; }
  .rows { max-width: 3.5rem; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; }
  th, td { padding: .5rem; }
  .overview thead { display: none; }
  .overview tr, .overview td { display: block; }
  .overview td { border: 0; padding: 0; white-space: normal; }
  .overview tr { border-bottom: 1px solid var(--line); padding: .625rem 0; }
  .overview tbody tr:last-child { border: 0; }
  .overview td:last-child { text-align: left; }
  .overview td[data-head]:not(:first-child)::before { content: attr(data-head) ": "; color: var(--soft); }
}
`;
