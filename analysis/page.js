"use strict";
// Shows the figures that stand in the data, in the colours of the screen or of paper, and lets strategies be chosen. It computes nothing.

const data = JSON.parse(document.getElementById("data").textContent);
const onPhone = matchMedia("(max-width: 720px)");
const onDark = matchMedia("(prefers-color-scheme: dark)");
const onTouch = matchMedia("(pointer: coarse)");
const state = { cost: "nudged_phases", whole: false, selected: [...data.selected], printing: false };
const PRINT_WIDTH = 640;

// ---------------------------------------------------------------- looks

const THEMES = {
  light: { paper: "#ffffff", ink: "#1a1a1a", muted: "#545c66", grid: "#e6e9ec", faint: "#8d97a1" },
  // Okabe and Ito's blue is too dark for a dark page; its lighter sibling stays in the family.
  dark: { paper: "#14171a", ink: "#e8eaed", muted: "#a3acb6", grid: "#2a3036", faint: "#7d8790", "#0072B2": "#3d9fdb" },
};
const theme = () => THEMES[onDark.matches && !state.printing ? "dark" : "light"];
const faded = (colour, alpha) => `rgba(${[1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)).join(",")},${alpha})`;

// A copy with the names of colours replaced by the theme's; a curve's own colour and line come from `curve`.
function themed(part, key = "", curve = null) {
  if (Array.isArray(part)) return part.map((item) => themed(item, key, curve));
  if (part && typeof part === "object") return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, themed(value, name, curve)]));
  if (key === "dash" && part === "curve") return curve.dash;
  if (!/color$/i.test(key) || typeof part !== "string") return part;
  const colour = part === "curve" ? curve.colour : part;
  const found = theme()[colour] ?? colour;
  return key === "fillcolor" ? faded(found, 0.14) : found;
}

// The thesis's strategies have colours of their own, the others get one by the order in which they were chosen.
function look(name) {
  if (data.colours[name]) return { colour: data.colours[name], dash: "solid" };
  const rank = Math.max(state.selected.filter((other) => !data.colours[other]).indexOf(name), 0);
  return { colour: data.foundColours[rank % data.foundColours.length], dash: data.dashes[rank % data.dashes.length] };
}

const OPTIONS = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function draw(id, traces, arrangement) {
  const box = document.getElementById(id), fresh = !box.data, colours = theme();
  const shown = themed(traces).map((trace) => trace.customdata && !trace.hoverinfo
    ? { ...trace, hoverinfo: "text", hovertext: trace.customdata.map((name) => data.hover[name] ?? data.labels[name] ?? name) } : trace);
  const layout = { ...themed(arrangement), dragmode: onTouch.matches ? false : "zoom",
                   hoverlabel: { bgcolor: colours.paper, bordercolor: colours.muted, align: "left", font: { color: colours.ink, size: 12 } } };
  layout.font = { ...layout.font, family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif" };
  layout.legend = { ...layout.legend, bgcolor: "rgba(0,0,0,0)" };
  if (state.printing && !layout.width) layout.width = box.closest(".pair") ? PRINT_WIDTH / 2 - 8 : PRINT_WIDTH;
  box.style.height = `${layout.height}px`;
  const drawn = Plotly.react(id, shown, layout, { ...OPTIONS, responsive: !layout.width, displayModeBar: id === "front" && !onTouch.matches && !onPhone.matches && !state.printing });
  if (fresh) box.on("plotly_click", (event) => event.points?.[0]?.customdata && toggle(event.points[0].customdata));
  return drawn;
}

// ---------------------------------------------------------------- figures

// Names are placed for a few widths: the largest that fits is taken, in the middle of what there is.
function drawFront() {
  const figure = data.fronts[state.cost]?.[state.whole ? "whole" : "near"];
  if (!figure) return hide("front");
  const room = state.printing ? PRINT_WIDTH : document.getElementById("front").parentElement.clientWidth;
  const widths = Object.keys(figure.sizes).map(Number).sort((a, b) => b - a);
  const size = figure.sizes[widths.find((width) => width <= room) ?? widths.at(-1)];
  const stretched = { ...size, xaxis: { ...figure.layout.xaxis, ...size.xaxis }, legend: { ...figure.layout.legend, ...size.legend } };
  const ringed = state.selected.filter((name) => !data.colours[name]);
  const rings = figure.data.filter((trace) => trace.customdata && trace.visible !== "legendonly").flatMap((trace) =>
    trace.customdata.map((name, at) => [name, trace.x[at], trace.y[at]]).filter(([name]) => ringed.includes(name)));
  const ring = { type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false, x: rings.map(([, x]) => x), y: rings.map(([, , y]) => y),
                 marker: { size: 15, symbol: "circle-open", color: rings.map(([name]) => look(name).colour), line: { width: 2 } } };
  return draw("front", [...figure.data, ring], { ...figure.layout, ...stretched });
}

function drawCurves() {
  const chosen = state.selected.filter((name) => data.curves[name]);
  const traces = (kind) => chosen.flatMap((name) => data.curves[name][kind].map((trace) => ({
    ...themed(trace, "", look(name)), ...(trace.hovertemplate ? { hovertemplate: `${trace.hovertemplate}<extra></extra>` } : {}) })));
  return Promise.all([draw("accuracy", traces("accuracy"), data.curveLayouts.accuracy), draw("schedule", traces("p_std"), data.curveLayouts.p_std)]);
}

function hide(id) {
  document.getElementById(id).closest("figure").classList.add("absent");
}

function drawFigure(id) {
  if (!document.getElementById(id)) return;
  const figure = id === "causes" && onPhone.matches && !state.printing ? data.causesStacked : data.figures[id];
  return figure ? draw(id, figure.data, figure.layout) : hide(id);
}

// ---------------------------------------------------------------- choices

function drawChips() {
  const dashes = { solid: "", dash: "6 3", dashdot: "6 3 1.5 3", dot: "1.5 3" };
  const chips = state.selected.map((name) => {
    const own = look(name), chip = document.createElement("button");
    Object.assign(chip, { type: "button", className: "chip", title: "hide its curves" });
    chip.dataset.strategy = name;
    chip.innerHTML = `<svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke="${theme()[own.colour] ?? own.colour}" stroke-width="2.5" stroke-dasharray="${dashes[own.dash]}"/></svg>`;
    chip.append(data.labels[name] ?? name, Object.assign(document.createElement("span"), { className: "cross", textContent: " ×" }));
    return chip;
  });
  const reset = Object.assign(document.createElement("button"), { type: "button", className: "chip all", id: "reset", textContent: "reset" });
  document.getElementById("chips").replaceChildren(...chips, reset);
  for (const button of document.querySelectorAll(".pick")) button.setAttribute("aria-pressed", String(state.selected.includes(button.dataset.strategy)));
}

function toggle(name) {
  if (!data.curves[name]) return;
  state.selected = state.selected.includes(name) ? state.selected.filter((other) => other !== name) : [...state.selected, name];
  drawChips();
  return Promise.all([drawFront(), drawCurves()]);
}

// In the order of the page; the browser may paint between two figures.
async function drawAll() {
  drawChips();
  const figures = [drawFront, () => drawFigure("seeds"), () => drawFigure("decision"), drawCurves, ...["causes", "heat", "importances", "attainment", "progress"].map((id) => () => drawFigure(id))];
  for (const [number, figure] of figures.entries()) {
    await figure();
    if (!number) mark("ready");
    if (!state.printing) await new Promise((resume) => setTimeout(resume));
  }
  mark("complete");
}

// Milliseconds from opening the page until the front (ready) or all figures (complete) were drawn.
function mark(stage) {
  document.documentElement.dataset[stage] ??= String(Math.round(performance.now()));
}

function listen() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-strategy]");
    if (button) toggle(button.dataset.strategy);
    if (event.target.id === "reset") { state.selected = [...data.selected]; drawChips(); drawFront(); drawCurves(); }
  });
  document.getElementById("controls").addEventListener("change", (event) => {
    if (event.target.name === "cost") state.cost = event.target.value;
    state.whole = document.getElementById("whole").checked;
    drawFront();
  });
  for (const query of [onDark, onPhone]) query.addEventListener("change", drawAll);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width && !state.printing) { width = innerWidth; drawFront(); } });
  // Paper is white and has one width, whatever the screen was.
  addEventListener("beforeprint", () => { state.printing = true; drawAll(); });
  addEventListener("afterprint", () => { state.printing = false; drawAll().then(() => dispatchEvent(new Event("resize"))); });
}

function offerCosts() {
  document.getElementById("costs").replaceChildren(...data.costs.map((cost) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "cost", value: cost.key, checked: cost.key === state.cost });
    const label = document.createElement("label");
    label.append(input, ` ${cost.title.toLowerCase()}`);
    return label;
  }));
}

// plotly.js is carried compressed: as it is, it alone would fill the file.
async function loadPlotly() {
  const text = document.getElementById("plotly").textContent;
  const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}

// Headings without a figure say nothing, and figures are numbered as they stand.
function hideEmptySections() {
  [...document.querySelectorAll("figure:not(.absent) > figcaption > b")].forEach((title, number) => { title.textContent = `Figure ${number + 1}.`; });
  for (const id of ["maps", "why", "confidence"]) {
    const section = document.getElementById(id);
    if (!section.querySelector("figure:not(.absent)")) section.classList.add("absent");
  }
}

async function main() {
  offerCosts();
  await loadPlotly();
  const drawn = drawAll();
  listen();
  await drawn;
  hideEmptySections();
}

main().catch((problem) => {
  console.error(problem);
  const told = document.createElement("p");
  told.className = "problem";
  told.textContent = `The figures could not be drawn (${problem.message}); the same figures are in the folder figures/ beside this file.`;
  document.querySelector("main").prepend(told);
});
