/** Draws the plots from the JSON beside it; plain script of the page, no library. */
export const PAGE_SCRIPT = String.raw`
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#c49fd8", "#9498a0"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const LIGHT_HEAT = [[246, 247, 249], [254, 217, 142], [254, 153, 41], [204, 76, 2], [102, 37, 6]];
const DARK_HEAT = [[26, 31, 40], [72, 40, 88], [158, 50, 94], [240, 112, 60], [255, 226, 130]];
const tip = document.getElementById("tip");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const label = ({ name, pid }) => pid === 0 ? name : (name.length > 18 ? name.slice(0, 17) + "…" : name || "?") + " " + pid;
const clock = (ms, digits) => new Date(ms).toISOString().slice(11, digits > 0 ? 20 + digits : 19);
const spanMs = data.bins * data.binMs;
const clockDigits = spanMs < 20000 ? 3 : 0;
const LEFT = 46, BOTTOM = 22, TOP = 8;

function prepare(canvas, height) {
  const scale = devicePixelRatio || 1;
  canvas.style.height = height + "px";
  const width = canvas.clientWidth;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  return { context, width, height };
}

function timeAxis(context, left, width, bottom) {
  context.fillStyle = style("--soft");
  context.textBaseline = "top";
  const count = Math.max(2, Math.floor(width / 130));
  for (let tick = 0; tick <= count; tick++) {
    const x = left + (width * tick) / count;
    context.textAlign = tick === 0 ? "left" : tick === count ? "right" : "center";
    context.fillText(clock(data.startMs + (spanMs * tick) / count, clockDigits), x, bottom + 6);
  }
}

function niceStep(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough);
}

function drawCpu() {
  const { context, width, height } = prepare(document.getElementById("cpu"), 300);
  const plotWidth = width - LEFT - 4, plotHeight = height - TOP - BOTTOM;
  const sums = new Float64Array(data.bins);
  for (const band of data.bands) band.cpu.forEach((value, bin) => { sums[bin] += value; });
  const most = Math.max(0.01, ...sums) * 1.05;
  const y = (value) => TOP + plotHeight * (1 - value / most);
  const x = (bin) => LEFT + (plotWidth * bin) / data.bins;
  const below = new Float64Array(data.bins);
  data.bands.forEach((band, index) => {
    context.fillStyle = COLOURS[Math.min(index, COLOURS.length - 1)];
    context.beginPath();
    context.moveTo(x(0), y(below[0]));
    for (let bin = 0; bin < data.bins; bin++) {
      const top = y(below[bin] + band.cpu[bin]);
      context.lineTo(x(bin), top);
      context.lineTo(x(bin + 1), top);
    }
    for (let bin = data.bins - 1; bin >= 0; bin--) {
      context.lineTo(x(bin + 1), y(below[bin]));
      context.lineTo(x(bin), y(below[bin]));
    }
    context.fill();
    band.cpu.forEach((value, bin) => { below[bin] += value; });
  });
  context.strokeStyle = style("--line");
  context.fillStyle = style("--soft");
  context.textAlign = "right";
  context.textBaseline = "middle";
  const step = niceStep(most);
  for (let value = 0; value <= most; value += step) {
    context.globalAlpha = 0.6;
    context.beginPath();
    context.moveTo(LEFT, y(value));
    context.lineTo(LEFT + plotWidth, y(value));
    context.stroke();
    context.globalAlpha = 1;
    context.fillText(Number(value.toPrecision(3)), LEFT - 8, y(value));
  }
  timeAxis(context, LEFT, plotWidth, TOP + plotHeight);
}

function drawLegend() {
  const legend = document.getElementById("legend");
  data.bands.forEach((band, index) => {
    const item = document.createElement("li");
    const mark = document.createElement("i");
    mark.style.background = COLOURS[Math.min(index, COLOURS.length - 1)];
    item.append(mark, label(band));
    legend.append(item);
  });
}

const ROW = 18, NAMES = 170;
const heatMost = Math.max(0.001, ...data.waiting.flatMap((row) => row.wait));
const heatLeast = heatMost / 1000;

function heatColour(value) {
  const stops = dark.matches ? DARK_HEAT : LIGHT_HEAT;
  const at = value <= heatLeast ? 0 : (Math.log(value / heatLeast) / Math.log(1000)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at)), part = Math.min(1, at - low);
  return "rgb(" + stops[low].map((from, channel) => Math.round(from + (stops[low + 1][channel] - from) * part)).join(" ") + ")";
}

const duration = (share) => (share * 1000 >= 100 ? (share * 1000).toFixed(0) : (share * 1000).toPrecision(2)) + " ms/s";

function drawHeat() {
  const rows = data.waiting;
  const { context, width } = prepare(document.getElementById("heat"), Math.max(1, rows.length) * ROW + BOTTOM + TOP);
  const plotWidth = width - NAMES - 4;
  context.textBaseline = "middle";
  rows.forEach((row, index) => {
    const top = TOP + index * ROW;
    context.fillStyle = style("--ink");
    context.textAlign = "right";
    context.fillText(label(row), NAMES - 8, top + ROW / 2);
    row.wait.forEach((value, bin) => {
      const from = Math.floor(NAMES + (plotWidth * bin) / data.bins);
      const to = Math.ceil(NAMES + (plotWidth * (bin + 1)) / data.bins);
      context.fillStyle = heatColour(value);
      context.fillRect(from, top, to - from, ROW - 1);
    });
  });
  if (rows.length === 0) {
    context.fillStyle = style("--soft");
    context.fillText("Nobody waited.", 0, TOP + ROW / 2);
  }
  timeAxis(context, NAMES, plotWidth, TOP + Math.max(1, rows.length) * ROW);
  const scale = prepare(document.getElementById("scale"), 10);
  for (let column = 0; column < scale.width; column++) {
    scale.context.fillStyle = heatColour(heatLeast * 1000 ** (column / scale.width));
    scale.context.fillRect(column, 0, 1.5, 10);
  }
  document.getElementById("scale-low").textContent = duration(heatLeast);
  document.getElementById("scale-high").textContent = duration(heatMost);
}

function pointing(canvas, left, tell) {
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const bin = Math.floor(((event.clientX - box.left - left) / (box.width - left - 4)) * data.bins);
    const text = bin < 0 || bin >= data.bins ? undefined : tell(bin, event.clientY - box.top);
    tip.hidden = text === undefined;
    if (text === undefined) return;
    tip.textContent = clock(data.startMs + bin * data.binMs, 3) + "\n" + text;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
}

pointing(document.getElementById("cpu"), LEFT, (bin) =>
  data.bands.map((band) => [band, band.cpu[bin]]).filter(([, value]) => value > 0).sort((one, other) => other[1] - one[1]).slice(0, 8)
    .map(([band, value]) => (value * 100).toFixed(1).padStart(6) + " %  " + label(band)).join("\n") || "nobody ran");
pointing(document.getElementById("heat"), NAMES, (bin, y) => {
  const row = data.waiting[Math.floor((y - TOP) / ROW)];
  return row && label(row) + " waited " + duration(row.wait[bin]);
});

const table = document.getElementById("processes");
table.tHead.addEventListener("click", ({ target }) => {
  const head = target.closest("th");
  const column = [...head.parentNode.children].indexOf(head);
  const falls = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falls ? "descending" : "ascending");
  const key = (row) => row.cells[column].dataset.v === undefined ? row.cells[column].textContent : Number(row.cells[column].dataset.v);
  const rows = [...table.tBodies[0].rows].sort((one, other) => (key(one) < key(other) ? -1 : key(one) > key(other) ? 1 : 0));
  table.tBodies[0].append(...(falls ? rows.reverse() : rows));
});

function draw() { drawCpu(); drawHeat(); }
drawLegend();
draw();
addEventListener("resize", draw);
dark.addEventListener("change", draw);
`;
