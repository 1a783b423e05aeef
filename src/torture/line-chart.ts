/** One line of a chart: its points in order. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

const WIDTH = 720;
const HEIGHT = 180;
const LEFT = 64;
const BOTTOM = 22;
const COLOURS = ["#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2"];

/** A chart as SVG, to stand in a page as it is. `marks` are vertical strokes: when something was done. */
export function lineChart(options: {
  readonly title: string;
  readonly unit: string;
  readonly xUnit?: string;
  readonly series: readonly Series[];
  readonly marks?: readonly number[];
}): string {
  const { title, unit, series, marks = [], xUnit = "s" } = options;
  const points = series.flatMap((each) => each.points);
  if (points.length === 0) return "";
  const xMax = Math.max(1, ...points.map(([x]) => x));
  const yMax = niceTop(Math.max(1, ...points.map(([, y]) => y)));
  const px = (x: number) => (LEFT + (x / xMax) * (WIDTH - LEFT - 8)).toFixed(1);
  const py = (y: number) => (HEIGHT - BOTTOM - (y / yMax) * (HEIGHT - BOTTOM - 26)).toFixed(1);
  const grid = [0, 0.5, 1].map((part) => {
    const y = py(part * yMax);
    return `<path class="grid" d="M${LEFT} ${y}H${WIDTH - 8}"/><text x="${LEFT - 6}" y="${Number(y) + 4}" text-anchor="end">${shortNumber(part * yMax)}</text>`;
  });
  const strokes = marks.map((x) => `<path class="mark" d="M${px(x)} 26V${HEIGHT - BOTTOM}"/>`);
  const lines = series.map(
    ({ points: each }, index) =>
      `<polyline stroke="${COLOURS[index % COLOURS.length]}" points="${thinned(each)
        .map(([x, y]) => `${px(x)},${py(y)}`)
        .join(" ")}"/>`,
  );
  const keys = series.map(
    ({ name }, index) =>
      `<tspan dx="${index === 0 ? 0 : 14}" fill="${COLOURS[index % COLOURS.length]}">${escaped(name)}</tspan>`,
  );
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">
<text x="${LEFT}" y="14" class="title">${escaped(title)} (${escaped(unit)})</text><text x="${WIDTH - 8}" y="14" text-anchor="end">${keys.join("")}</text>
${grid.join("")}${strokes.join("")}${lines.join("")}
<text x="${LEFT}" y="${HEIGHT - 6}">0</text><text x="${WIDTH - 8}" y="${HEIGHT - 6}" text-anchor="end">${shortNumber(xMax)} ${escaped(xUnit)}</text>
</svg>`;
}

export const CHART_STYLE = `svg{width:100%;max-width:${WIDTH}px;display:block;margin:.6em 0;font:11px system-ui,sans-serif;fill:#555}
svg .title{font-weight:600;fill:#222}svg polyline{fill:none;stroke-width:1.6}svg .grid{stroke:#ddd}svg .mark{stroke:#dc262655}`;

export function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** So many points that nothing is lost to the eye, and a page of an hour stays small. */
function thinned<Point>(points: readonly Point[]): readonly Point[] {
  const step = Math.ceil(points.length / 700);
  return step <= 1 ? points : points.filter((_, index) => index % step === 0 || index === points.length - 1);
}

function niceTop(value: number): number {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((top) => top >= value)!;
}

function shortNumber(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (value >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}
