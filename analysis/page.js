"use strict";
// Draws the figures of the report from the data beside it. Numbers are computed before; here they only get their place and colour.

const data = JSON.parse(document.getElementById("data").textContent);
const all = data.strategies;
const place = new Map(all.name.map((name, index) => [name, index]));
const onPhone = matchMedia("(max-width: 720px)");
const onDark = matchMedia("(prefers-color-scheme: dark)");
const onTouch = matchMedia("(pointer: coarse)");
const state = { cost: "nudged_phases", whole: false, selected: [...data.selected], printing: false };

const SYMBOLS = { standard: "square-open", centered: "diamond-open", cosine: "triangle-up-open", inverse_cosine: "triangle-down-open", stochastic: "pentagon-open" };
const FOUND = ["#56B4E9", "ink", "#CC79A7", "#E69F00", "#009E73", "#D55E00", "#0072B2"];
const DASHES = ["dash", "dashdot", "dot"];
const PRINT_WIDTH = 660;

// ---------------------------------------------------------------- words

const label = (name) => (place.has(name) ? all.label[place.get(name)] : data.labels[name]);
const percent = (value, digits = 2) => (value === null ? "–" : (100 * value).toFixed(digits));
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 }); // made once: toLocaleString builds one for each number
const grouped = (value) => (value === null ? "–" : value >= 100 ? whole.format(value) : String(Number(value.toPrecision(3))));
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function hover(index) {
  const lines = [`<b>${escaped(all.label[index])}</b>`, escaped(all.what[index])];
  const deviation = all.accuracyStd[index] === null ? "" : ` ± ${percent(all.accuracyStd[index])}`;
  lines.push(`test accuracy ${percent(all.accuracy[index])}${deviation} % (${all.seeds[index]} seed${all.seeds[index] === 1 ? "" : "s"})`);
  if (all.low[index] !== null) lines.push(`95 % interval ${percent(all.low[index])} to ${percent(all.high[index])} %`);
  if (all.validation[index] !== null) lines.push(`validation accuracy ${percent(all.validation[index])} %`);
  for (const cost of data.costs) {
    const share = cost.key === "nudged_phases" && all.share[index] !== null ? ` (${percent(all.share[index], 0)} % of centered)` : "";
    if (all.cost[cost.key][index] !== null) lines.push(`${cost.title.toLowerCase()}: ${grouped(all.cost[cost.key][index])}${share}`);
  }
  if (all.probability[index] !== null) lines.push(`probability of being on the front: ${all.probability[index].toFixed(2)}`);
  if (all.collapsed[index]) lines.push(`collapsed on ${percent(all.collapsed[index], 0)} % of its seeds`);
  lines.push(`trial ${escaped(all.trials[index])}`);
  return lines.join("<br>");
}

// ---------------------------------------------------------------- looks

function theme() {
  const dark = onDark.matches && !state.printing;
  return dark
    ? { paper: "#14171a", ink: "#e8eaed", muted: "#a3acb6", grid: "#2a3036", faint: "#7d8790", dark }
    : { paper: "#ffffff", ink: "#1a1a1a", muted: "#545c66", grid: "#e6e9ec", faint: "#8d97a1", dark };
}

function colourOf(name) {
  if (data.colours[name]) {
    // Okabe and Ito's blue is too dark for a dark page; its lighter sibling stays in the family.
    return name === "centered" && theme().dark ? "#3d9fdb" : data.colours[name];
  }
  const rank = state.selected.filter((other) => !data.colours[other]).indexOf(name);
  const colour = FOUND[Math.max(rank, 0) % FOUND.length];
  return colour === "ink" ? theme().ink : colour;
}

function dashOf(name) {
  if (data.colours[name]) return "solid";
  return DASHES[Math.max(state.selected.filter((other) => !data.colours[other]).indexOf(name), 0) % DASHES.length];
}

const faded = (colour, alpha) => `rgba(${[1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)).join(",")},${alpha})`;

function axis(title, more = {}) {
  const look = theme();
  return { title: { text: title, standoff: 8, font: { size: 13 } }, gridcolor: look.grid, linecolor: look.muted, zeroline: false, showline: true, ticks: "outside",
           tickcolor: look.muted, automargin: true, tickfont: { size: 11, color: look.muted }, ...more };
}

function layout(more = {}) {
  const look = theme();
  return { paper_bgcolor: look.paper, plot_bgcolor: look.paper, font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", color: look.ink, size: 12 },
           margin: { l: 56, r: 14, t: 14, b: 48 }, hovermode: "closest", showlegend: false, dragmode: onTouch.matches ? false : "zoom",
           hoverlabel: { bgcolor: look.paper, bordercolor: look.muted, align: "left", font: { color: look.ink, size: 12 } },
           legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)" },
           ...(state.printing ? { width: more.narrow ? PRINT_WIDTH / 2 - 8 : PRINT_WIDTH, height: more.narrow ? 250 : 340 } : {}), ...more, narrow: undefined };
}

const OPTIONS = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function draw(id, traces, arrangement) {
  const box = document.getElementById(id), fresh = !box.data;
  const drawn = Plotly.react(id, traces, arrangement, { ...OPTIONS, displayModeBar: id === "front" && !onTouch.matches && !state.printing });
  if (fresh) box.on("plotly_click", (event) => event.points?.[0]?.customdata && toggle(event.points[0].customdata));
  return drawn;
}

// ---------------------------------------------------------------- figures

function errors(indices, values, look) {
  return { type: "data", array: indices.map((index) => values[index] ?? 0), thickness: 1, width: 0, ...look };
}

const isBelow = (index) => !state.whole && all.accuracy[index] < data.window.low;

function points(indices, more) {
  const cost = all.cost[state.cost];
  return { type: "scatter", mode: "markers", x: indices.map((index) => cost[index]), y: indices.map((index) => 100 * all.accuracy[index]),
           customdata: indices.map((index) => all.name[index]), hovertext: indices.map(hover), hoverinfo: "text", ...more };
}

// A strategy below the window has no bars: they would cross what is shown.
function withErrors(indices, colour) {
  const accuracyStd = all.accuracyStd.map((value, index) => (value === null || isBelow(index) ? 0 : 100 * value));
  return { error_y: errors(indices, accuracyStd, { color: colour }), error_x: errors(indices, all.costStd[state.cost], { color: colour }) };
}

function frontTraces() {
  const look = theme();
  const reference = data.costs.find((cost) => cost.key === state.cost).reference;
  const known = all.name.map((_, index) => index).filter((index) => all.cost[state.cost][index] !== null && all.accuracy[index] !== null);
  const front = data.fronts[state.cost];
  const isFront = new Set(front);
  const rest = known.filter((index) => !all.thesis[index] && !isFront.has(index));
  const found = front.filter((index) => !all.thesis[index]);
  const [stairCost, stairAccuracy] = data.stairs[state.cost];
  const last = stairCost.length - 1;
  const traces = [points(rest, { name: "found by the search", marker: { size: 7, color: look.faint, opacity: 0.55 } })];
  if (last >= 0) {
    traces.push({ type: "scatter", mode: "lines", name: "front", line: { shape: "hv", color: look.ink, width: 1.3 }, hoverinfo: "skip",
                  x: [...stairCost, Math.max(reference, stairCost[last])], y: [...stairAccuracy, stairAccuracy[last]].map((value) => 100 * value) });
  }
  // What is on the front but less accurate than the window shows stands at its lower edge.
  const edge = 100 * (data.window.low + 0.012 * (data.window.high - data.window.low));
  traces.push(points(found, { name: "found, on the front", marker: { size: 9, color: look.ink, symbol: found.map((index) => (isBelow(index) ? "triangle-down" : "circle")) },
                              ...withErrors(found, look.ink), y: found.map((index) => (isBelow(index) ? edge : 100 * all.accuracy[index])) }));
  for (const index of known.filter((index) => all.thesis[index])) {
    const colour = colourOf(all.name[index]);
    traces.push(points([index], { name: all.label[index], showlegend: false, marker: { size: 12, symbol: SYMBOLS[all.name[index]], color: colour, line: { width: 2.2, color: colour } },
                                  ...withErrors([index], colour) }));
  }
  const ringed = known.filter((index) => state.selected.includes(all.name[index]) && !all.thesis[index]);
  traces.push(points(ringed, { name: "curves shown below", hoverinfo: "skip", hovertext: undefined,
                               marker: { size: 15, symbol: "circle-open", color: ringed.map((index) => colourOf(all.name[index])), line: { width: 2 } } }));
  return traces;
}

// Names of the thesis's strategies, moved apart where they would overlap; those below the window point down from its lower edge.
function frontLabels(height, low, high) {
  const below = state.whole ? [] : data.window.below;
  const shown = all.name.map((_, index) => index)
    .filter((index) => all.thesis[index] && all.cost[state.cost][index] !== null && all.accuracy[index] !== null && !below.includes(index))
    .sort((a, b) => all.accuracy[b] - all.accuracy[a]);
  const pixels = (index) => (height * (high - all.accuracy[index])) / (high - low);
  let floor = -Infinity;
  const costs = all.cost[state.cost].filter((value) => value !== null);
  const turn = Math.min(...costs) + 0.75 * (Math.max(...costs) - Math.min(...costs));
  const labels = shown.map((index) => {
    const at = Math.max(pixels(index), floor);
    floor = at + 17;
    const left = all.cost[state.cost][index] > turn;
    return { x: all.cost[state.cost][index], y: 100 * all.accuracy[index], text: `<b>${escaped(all.label[index])}</b>`, font: { color: colourOf(all.name[index]), size: 12 },
             ax: left ? -16 : 16, ay: at - pixels(index), xanchor: left ? "right" : "left", yanchor: "middle", arrowhead: 0, arrowwidth: 0.8, arrowcolor: colourOf(all.name[index]),
             standoff: 6, showarrow: true, bgcolor: faded(theme().paper, 0.75), borderpad: 1 };
  });
  const out = below.map((index, number) => ({ x: all.cost[state.cost][index], y: 0, yref: "paper", ax: 0, ay: number % 2 ? -52 : -32, arrowhead: 2, arrowcolor: colourOf(all.name[index]), showarrow: true,
                                      text: `<b>${escaped(all.label[index])}</b> ${percent(all.accuracy[index], 1)} %`, font: { color: colourOf(all.name[index]), size: 12 }, bgcolor: faded(theme().paper, 0.75) }));
  return [...labels, ...out];
}

function drawFront() {
  const box = document.getElementById("front");
  const values = all.accuracy.filter((value) => value !== null);
  const span = state.whole && values.length ? [Math.min(...values) - 0.02, Math.min(1.005, Math.max(...values) + 0.02)] : [data.window.low, data.window.high];
  const height = (state.printing ? 340 : box.clientHeight) - 100;
  const title = data.costs.find((cost) => cost.key === state.cost).title;
  return draw("front", frontTraces(), layout({
    xaxis: axis(title, { separatethousands: true, tickformat: state.cost === "train_seconds" ? "" : ",d", nticks: onPhone.matches ? 5 : 10 }),
    yaxis: axis("Test accuracy (%)", { range: span.map((value) => 100 * value) }),
    showlegend: true, annotations: frontLabels(height, ...span), margin: { l: 56, r: 14, t: 34, b: 48 },
  }));
}

function drawCurves() {
  const accuracy = [], schedule = [];
  for (const name of state.selected.filter((other) => data.curves[other])) {
    const curve = data.curves[name], colour = colourOf(name), line = { color: colour, width: 2, dash: dashOf(name) };
    const low = curve.accuracy.map((value, at) => 100 * Math.max(0, value - (curve.std[at] ?? 0)));
    const high = curve.accuracy.map((value, at) => 100 * Math.min(1, value + (curve.std[at] ?? 0)));
    accuracy.push({ type: "scatter", mode: "lines", x: [...curve.epoch, ...[...curve.epoch].reverse()], y: [...high, ...low.reverse()], fill: "toself",
                    fillcolor: faded(colour, 0.14), line: { width: 0 }, hoverinfo: "skip", showlegend: false });
    accuracy.push({ type: "scatter", mode: "lines", name: label(name), x: curve.epoch, y: curve.accuracy.map((value) => 100 * value), line,
                    hovertemplate: `<b>${escaped(label(name))}</b><br>epoch %{x}: %{y:.2f} %<extra></extra>` });
    schedule.push({ type: "scatter", mode: "lines", name: label(name), x: curve.epoch, y: curve.p_std, line,
                    hovertemplate: `<b>${escaped(label(name))}</b><br>epoch %{x}: p_std %{y:.3f}<extra></extra>` });
  }
  const epochs = axis("Epoch");
  return Promise.all([
    draw("accuracy", accuracy, layout({ narrow: true, xaxis: epochs, yaxis: axis("Test accuracy (%)") })),
    draw("schedule", schedule, layout({ narrow: true, xaxis: epochs, yaxis: axis("p_std", { range: [-0.04, 1.04] }) })),
  ]);
}

function hide(id) {
  document.getElementById(id).closest("figure").classList.add("absent");
}

function drawCauses() {
  if (!data.causes.length) return hide("causes");
  const look = theme(), stacked = onPhone.matches && !state.printing;
  const traces = [], arrangement = { showlegend: false, annotations: [], margin: { l: 56, r: 14, t: 26, b: 52 } };
  const known = all.name.map((_, index) => index).filter((index) => all.accuracy[index] !== null);
  const count = data.causes.length, gap = stacked ? 0.14 : 0.06, size = (1 - gap * (count - 1)) / count;
  data.causes.forEach((cause, number) => {
    const tail = number ? String(number + 1) : "";
    const values = (index) => (cause.column === "longest_cheap_run" ? Math.max(all[cause.column][index], 1) : all[cause.column][index]);
    const part = (indices, more) => ({ type: "scatter", mode: "markers", x: indices.map(values), y: indices.map((index) => 100 * all.accuracy[index]), xaxis: `x${tail}`, yaxis: `y${tail}`,
                                       customdata: indices.map((index) => all.name[index]), hovertext: indices.map(hover), hoverinfo: "text", ...more });
    traces.push(part(known.filter((index) => !all.thesis[index]), { marker: { size: 6, color: look.faint, opacity: 0.6 } }));
    for (const index of known.filter((index) => all.thesis[index])) {
      const colour = colourOf(all.name[index]);
      traces.push(part([index], { marker: { size: 10, symbol: SYMBOLS[all.name[index]], color: colour, line: { width: 2, color: colour } } }));
    }
    const from = stacked ? 1 - number * (size + gap) - size : number * (size + gap);
    const title = count > 1 && !stacked ? cause.title.replace(" (", "<br>(").replace(", ", ",<br>") : cause.title;
    arrangement[`xaxis${tail}`] = axis(title, { type: cause.logarithmic ? "log" : "linear", domain: stacked ? [0, 1] : [from, from + size], anchor: `y${tail}`, exponentformat: "power",
                                                dtick: cause.logarithmic ? 1 : undefined });
    arrangement[`yaxis${tail}`] = axis(number && !stacked ? "" : "Test accuracy (%)", { domain: stacked ? [from, from + size] : [0, 1], anchor: `x${tail}`,
                                                                                        showticklabels: stacked || !number, matches: number && !stacked ? "y" : undefined });
    if (cause.rho !== null) {
      arrangement.annotations.push({ text: `ρ = ${cause.rho.toFixed(2).replace("-", "−")}`, showarrow: false, xref: `x${tail} domain`, yref: `y${tail} domain`, x: 0, y: 1,
                                     xanchor: "left", yanchor: "bottom", font: { size: 12, color: look.muted } });
    }
  });
  return draw("causes", traces, layout(arrangement));
}

function drawHeat() {
  const grid = data.heat;
  if (!grid) return hide("heat");
  const look = theme();
  const best = Math.max(...grid.accuracy.flat().filter((value) => value !== null));
  const across = grid.share.slice(1).map((edge, at) => (edge + grid.share[at]) / 2);
  const up = grid.beta.slice(1).map((edge, at) => Math.sqrt(edge * grid.beta[at]));
  const counts = { type: "scatter", mode: "text", x: [], y: [], text: [], hoverinfo: "skip", textfont: { size: 10, color: [] } };
  grid.count.forEach((row, r) => row.forEach((count, c) => {
    if (!count) return;
    counts.x.push(across[c]); counts.y.push(up[r]); counts.text.push(String(count));
    counts.textfont.color.push(grid.accuracy[r][c] > (grid.floor + best) / 2 ? "#1a1a1a" : "#ffffff");
  }));
  const cells = { type: "heatmap", x: grid.share, y: grid.beta, z: grid.accuracy.map((row) => row.map((value) => (value === null ? null : 100 * value))), zmin: 100 * grid.floor,
                  zmax: 100 * best, colorscale: "Cividis", hoverongaps: false, text: grid.count,
                  hovertemplate: "cheap share %{x:.2f}, β %{y:.3g}<br>%{z:.2f} % over %{text} strategies<extra></extra>",
                  colorbar: { title: { text: "%" }, thickness: 12, outlinewidth: 0, tickfont: { size: 11, color: look.muted } } };
  return draw("heat", [cells, counts], layout({ narrow: true, xaxis: axis("Share of cheap updates (mean p_std)", { showgrid: false, range: [0, 1] }),
                                                yaxis: axis("Nudge β", { type: "log", showgrid: false, tickvals: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10], range: [grid.beta[0], grid.beta.at(-1)].map(Math.log10) }) }));
}

function drawImportances() {
  const found = data.importances;
  if (!found) return hide("importances");
  const names = [...found.parameter].reverse();
  const bars = (key, title, colour) => ({ type: "bar", orientation: "h", name: `${title} (R² ${found.r2[key].toFixed(2)})`, y: names, x: [...found[key]].reverse(), marker: { color: colour },
                                          hovertemplate: `%{y}: %{x:.3f}<extra>${title}</extra>` });
  return draw("importances", [bars("nudged_phases", "nudged phases", "#D55E00"), bars("accuracy", "accuracy", theme().dark ? "#3d9fdb" : "#0072B2")],
              layout({ narrow: true, barmode: "group", bargap: 0.35, showlegend: true, margin: { l: 56, r: 14, t: 34, b: 48 }, xaxis: axis("Loss of R² when shuffled", { rangemode: "tozero" }),
                       yaxis: axis("") }));
}

function drawAttainment() {
  if (!data.surfaces.length) return hide("attainment");
  const look = theme(), reference = data.costs[0].reference, seeds = data.surfaces.at(-1).seeds;
  const looks = [["dash", "#56B4E9"], ["solid", look.dark ? "#3d9fdb" : "#0072B2"], ["dot", look.ink]].slice(-data.surfaces.length);
  const traces = data.surfaces.map((surface, number) => ({
    type: "scatter", mode: "lines", name: `${surface.seeds} of ${seeds} seeds`, line: { shape: "hv", dash: looks[number][0], color: looks[number][1], width: 2 },
    x: [...surface.cost, Math.max(reference, surface.cost.at(-1))], y: [...surface.accuracy, surface.accuracy.at(-1)].map((value) => 100 * value),
    hovertemplate: "%{y:.2f} % at %{x:,.0f} nudged phases<extra></extra>" }));
  return draw("attainment", traces, layout({ narrow: true, showlegend: true, margin: { l: 56, r: 14, t: 34, b: 48 }, xaxis: axis("Nudged phases", { tickformat: ",d", nticks: 5 }),
                                             yaxis: axis("Test accuracy attained (%)", { range: [100 * data.window.low, 100 * data.window.high] }) }));
}

function drawProgress() {
  if (!data.progress.some((search) => search.trials.length > 1)) return hide("progress");
  const colours = [theme().dark ? "#3d9fdb" : "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
  const samplers = [...new Set(data.progress.map((search) => search.sampler))];
  const colour = (search) => colours[(samplers.length > 1 ? samplers.indexOf(search.sampler) : data.progress.indexOf(search)) % colours.length];
  const line = (search, more) => ({ type: "scatter", mode: "lines", x: search.trials, y: search.hypervolume, hovertemplate: "%{y:.4f} after %{x} strategies<extra></extra>", ...more });
  const compared = data.medians.length > 0; // thin lines for searches, a thick one for each sampler's median
  const traces = data.progress.map((search) => line(search, { name: search.search, showlegend: !compared, opacity: compared ? 0.6 : 1, line: { shape: "hv", color: colour(search), width: compared ? 1 : 2 } }));
  for (const median of data.medians) traces.push(line(median, { name: `${median.sampler}, median`, line: { shape: "hv", color: colour(median), width: 3 } }));
  return draw("progress", traces, layout({ narrow: true, showlegend: data.progress.length > 1, margin: { l: 56, r: 14, t: 34, b: 48 }, xaxis: axis("Searched strategies, after the thesis's"),
                                           yaxis: axis("Hypervolume") }));
}

// ---------------------------------------------------------------- choices

function swatch(name) {
  const dash = { solid: "", dash: "6 3", dashdot: "6 3 1.5 3", dot: "1.5 3" }[dashOf(name)];
  return `<svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke="${colourOf(name)}" stroke-width="2.5" stroke-dasharray="${dash}"/></svg>`;
}

function drawChips() {
  const chips = state.selected.map((name) => `<button type="button" class="chip" data-strategy="${escaped(name)}" title="hide its curves">${swatch(name)}${escaped(label(name))}<span class="cross"> ×</span></button>`);
  document.getElementById("chips").innerHTML = [...chips, '<button type="button" class="chip all" id="reset">reset</button>'].join("");
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
  for (const figure of [drawFront, drawCurves, drawCauses, drawHeat, drawImportances, drawAttainment, drawProgress]) {
    await figure();
    if (figure === drawCurves) mark("ready");
    if (!state.printing) await new Promise((resume) => setTimeout(resume));
  }
  mark("complete");
}

// Milliseconds from opening the page until the front and its curves (ready) or all figures (complete) were drawn.
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
  // Paper is white and has one width, whatever the screen was.
  addEventListener("beforeprint", () => { state.printing = true; drawAll(); });
  addEventListener("afterprint", () => { state.printing = false; drawAll().then(() => dispatchEvent(new Event("resize"))); });
}

function offerCosts() {
  const known = data.costs.filter((cost) => all.cost[cost.key].some((value) => value !== null));
  document.getElementById("costs").innerHTML = known.map((cost) =>
    `<label><input type="radio" name="cost" value="${cost.key}"${cost.key === state.cost ? " checked" : ""}> ${cost.title.toLowerCase()}</label>`).join("");
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
