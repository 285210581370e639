"use strict";
// What the page tells in words: values under the cursor, trust numbers, how a result was made, the index of cases.

const $ = (id) => document.getElementById(id);
const WAYS = [["L", "R"], ["P", "A"], ["I", "S"]];

// A table row of a heading and further cells, as plain text.
CFM.row = function (table, heading, ...cells) {
  const row = table.tBodies[0].insertRow();
  row.appendChild(document.createElement("th")).textContent = heading;
  for (const text of cells) row.insertCell().textContent = text;
  return row;
};

CFM.clear = function (element) {
  element.replaceChildren();
  return element;
};

CFM.numberText = function (value, step) {
  const decimals = Math.min(4, Math.max(0, Math.ceil(-Math.log10(Math.abs(step) || 1) - 1e-9)));
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text;
};

// Value of a layer at a voxel, with its unit.
CFM.valueText = function (view, name, index) {
  const layer = view.layers[name];
  if (name === "b" && view.layers.covered && !view.layers.covered.data[index]) return "not covered";
  if (layer.kind === "rgb") return `RGB ${[0, 1, 2].map((color) => layer.data[index + color * layer.count]).join(", ")}`;
  const value = CFM.valueOf(layer, index);
  const factor = layer.factor ?? 1;
  const text = `${CFM.numberText(value * factor, layer.step * factor)} ${layer.unit ?? ""}`.trim();
  return factor === 1 ? text : `${text} (${CFM.numberText(value, Math.max(1, layer.step))} ${layer.raw})`;
};

CFM.tellValues = function (view, voxel) {
  const { kase, layers } = view;
  const table = $("values");
  CFM.clear(table.tBodies[0]);
  const [nx, ny] = kase.shape;
  const index = voxel[0] + nx * (voxel[1] + ny * voxel[2]);
  const place = kase.placed
    ? CFM.placeOf(kase, voxel).map((mm, axis) => `${WAYS[axis][Number(mm >= 0)]} ${Math.abs(mm).toFixed(1)}`).join("  ") + " mm"
    : "";
  const stored = CFM.storedOf(kase, voxel).slice(0, kase.picture ? 2 : 3).join(", ");
  CFM.row(table, "place", `${place} (${kase.picture ? "column, row" : "voxel"} ${stored})`).cells[1].className = "place";
  for (const name of ["a", "b", "fused"]) CFM.row(table, view.titles[name], CFM.valueText(view, name, index)).cells[1].id = `value-${name}`;
  if (layers.share) {
    const share = Math.round(100 * CFM.valueOf(layers.share, index));
    CFM.row(table, "made of", `${share} % ${view.titles.a}, ${100 - share} % ${view.titles.b}`).cells[1].id = "value-share";
  }
};

const TRUST = [
  ["ssim_a", (t) => `SSIM to ${t.a}`, 1], ["ssim_b", (t) => `SSIM to ${t.b}`, 1], ["qabf", () => "Qabf", 1],
  ["mutual_information", () => "mutual information of A and B", 1],
  ["extrema_in_neither", () => "extrema in neither source", 100], ["outside_sources", () => "outside both sources", 100],
  ["coverage", (t) => `covered by ${t.b}`, 100],
];

CFM.tellTrust = function (view) {
  const table = $("trust");
  CFM.clear(table.tBodies[0]);
  for (const [key, words, factor] of TRUST) {
    const value = (view.kase.scores ?? {})[key];
    if (value === null || value === undefined) continue;
    CFM.row(table, words(view.titles), factor === 1 ? CFM.numberText(value, 0.001) : `${(100 * value).toFixed(1)} %`);
  }
};

CFM.tellCase = function (view, run) {
  const { kase } = view;
  const warnings = CFM.clear($("warnings"));
  for (const text of kase.warnings ?? []) {
    const line = warnings.appendChild(document.createElement("p"));
    line.className = "warning";
    line.textContent = `warning: ${text}`;
  }
  $("error").textContent = kase.error ? `${kase.status}: ${kase.error}` : "";
  const table = $("made");
  CFM.clear(table.tBodies[0]);
  const record = kase.record ?? {};
  const told = { task: record.task, bundle: record.bundle, version: record.version ?? run.version, time: record.time };
  (kase.sources ?? []).forEach((path, number) => (told["AB"[number]] = path));
  (kase.descriptions ?? []).forEach((words, number) => words && (told[`series of ${"AB"[number]}`] = words));
  (kase.windows ?? []).forEach((words, number) => (told[`range of ${"AB"[number]}`] = words));
  told.result = kase.fused;
  told.weights = record.weights && `sha256 ${record.weights}`;
  for (const [name, value] of Object.entries(record.settings ?? {}))
    if (value !== null && value !== "" && value !== false && value !== "none") told[name] = String(value);
  (kase.notes ?? []).forEach((text, number) => (told[number ? `note ${number + 1}` : "note"] = text));
  told["3D view"] = kase.shape && !kase.picture ? run.niivue : "";
  for (const [heading, text] of Object.entries(told)) if (text) CFM.row(table, heading, text);
};

// In place of its pictures, why a case has none; where no case has any, that of all.
CFM.tellLost = function (stage, kase) {
  stage.className = "lost";
  const all = CFM.facts.cases.every((one) => !one.shape) ? CFM.facts.cases : [kase];
  for (const one of all) {
    const line = stage.appendChild(document.createElement("p"));
    line.className = "warning";
    line.textContent = `${one.name}: ${one.status}${one.error ? `: ${one.error}` : ""}`;
  }
};

CFM.tellIndex = function (cases, own, open) {
  const table = $("index");
  CFM.clear(table.tBodies[0]);
  cases.forEach((kase, number) => {
    const row = table.tBodies[0].insertRow();
    row.dataset.number = number;
    const cell = row.insertCell();
    if (kase.file === own) cell.textContent = kase.name;
    else {
      const link = cell.appendChild(document.createElement("a"));
      link.textContent = kase.name;
      link.href = `${kase.file}#${kase.id}`;
    }
    const scores = kase.scores ?? {};
    const mark = row.insertCell();
    mark.textContent = kase.shape ? ((kase.warnings ?? []).length ? "!" : "") : kase.status;
    mark.className = "warning";
    row.title = kase.shape ? `SSIM ${[scores.ssim_a, scores.ssim_b].map((one) => (Number.isFinite(one) ? CFM.numberText(one, 0.01) : "-")).join(" and ")}` : kase.error;
    if (kase.file === own) row.addEventListener("click", () => open(number));
  });
};
