/** The page's style: the reader's own theme, and paper's when it is printed. */
export const PAGE_STYLE = `
:root {
  --ink: #1c2330; --soft: #5c6675; --paper: #f6f7f9; --card: #ffffff; --line: #dde1e8; --accent: #2f5fd0;
  --good: #1d7f4b; --bad: #b3261e; --bad-paper: #fdecea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ef; --soft: #97a1b2; --paper: #12151b; --card: #1a1f28; --line: #2c3340; --accent: #8fb0ff;
    --good: #5fcf94; --bad: #ff9a92; --bad-paper: #3a1d1c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1280px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 24px; margin: 0 0 4px; letter-spacing: -0.01em; }
h1 span { color: var(--soft); font-weight: 400; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0 0 12px; }
.hint { color: var(--soft); font-size: 13px; }
.good { color: var(--good); }
.bad { color: var(--bad); background: var(--bad-paper); padding: 8px 12px; border-radius: 8px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; margin: 0 0 18px; }
canvas { display: block; width: 100%; }
#cpu { height: 300px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px; margin: 14px 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
.tiles dd { margin: 0; font-size: 21px; font-variant-numeric: tabular-nums; }
.tiles dt { color: var(--soft); font-size: 12px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; margin: 10px 0 0; padding: 0; font-size: 13px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.scale { display: flex; align-items: center; gap: 8px; color: var(--soft); font-size: 12px; margin-top: 8px; }
.scale canvas { width: 180px; height: 10px; border-radius: 3px; }
.wide { overflow-x: auto; max-height: 560px; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { position: sticky; top: 0; background: var(--card); text-align: left; color: var(--soft); font-weight: 600; white-space: nowrap; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); }
#processes th { cursor: pointer; }
#processes th[aria-sort] { color: var(--accent); }
td { white-space: nowrap; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.dim { color: var(--soft); }
.tag { color: var(--bad); font-size: 11px; }
#tip { position: fixed; pointer-events: none; background: var(--card); color: var(--ink); border: 1px solid var(--line);
  border-radius: 8px; padding: 8px 10px; font-size: 12px; box-shadow: 0 4px 18px rgb(0 0 0 / 0.2); white-space: pre; z-index: 9;
  font-variant-numeric: tabular-nums; }
@media print { .wide { max-height: none; } section { break-inside: avoid; } }
`;
