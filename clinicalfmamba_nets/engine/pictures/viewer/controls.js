"use strict";
// The toolbar, the windows of both sources, and the keys.

const KEYS = [
  ["wheel, up, down", "through the slices"], ["click, drag", "crosshair"], ["right drag", "window of A; with shift of B"],
  ["ctrl wheel, + -", "zoom; middle drag moves"], ["1 2 3", "planes, four pictures, 3D"], ["left, right", "opacity"],
  ["a b f d w", "above: A, B, fused, difference, share"], ["x", "exchange below and above"], ["space", "blink"],
  ["o c s", "blend, checkerboard, swipe"], ["t", "colors of B on and off"], ["i", "smooth or voxels"], ["k", "crosshair on and off"],
  ["z", "which plane the four pictures show"], ["r", "windows, zoom and crosshair as at first"], ["n p", "next, previous case"],
  ["h ?", "keys"],
];
const NAMES = { a: "a", b: "b", f: "fused", d: "difference", w: "share" };
const PRESETS = { brain: [0, 80], stroke: [15, 55], subdural: [-32.5, 182.5], soft: [-150, 250], bone: [-800, 2000] };

CFM.listenToBar = function (view) {
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => view.set({ layout: button.dataset.view }));
  for (const button of document.querySelectorAll("[data-mode]")) button.addEventListener("click", () => view.set({ mode: button.dataset.mode }));
  $("alpha").addEventListener("input", () => view.set({ alpha: $("alpha").value / 100 }));
  for (const side of ["back", "front"]) $(side).addEventListener("change", () => view.set({ [side]: $(side).value }));
  for (const name of ["tint", "smooth"]) $(name).addEventListener("change", () => view.set({ [name]: $(name).checked }));
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("help").lastElementChild.addEventListener("click", () => $("help").close());
  for (const [keys, words] of KEYS) {
    const row = CFM.row($("help").firstElementChild, "", words);
    row.cells[0].appendChild(document.createElement("kbd")).textContent = keys;
  }
  // A choice that is made gives the keys back to the pictures.
  document.addEventListener("change", (event) => event.target.blur());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.type === "number" || event.target.tagName === "SELECT";
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (CFM.pressed(view, event.key)) event.preventDefault();
  });
};

// Do what a key asks for; false for a key without a meaning.
CFM.pressed = function (view, key) {
  if (key === "n" || key === "p") return CFM.openNext(key === "n" ? 1 : -1), true;
  if (key === "h" || key === "?") return $("help").showModal(), true;
  if (!view.layers) return false;
  const axis = view.active?.axis ?? view.kase.native ?? 2;
  const flip = (name) => view.set({ [name]: !view[name] });
  const mode = (name) => view.set({ mode: view.mode === name ? "blend" : name });
  const actions = {
    ArrowUp: () => view.scroll(axis, 1), PageUp: () => view.scroll(axis, 1), ArrowDown: () => view.scroll(axis, -1),
    PageDown: () => view.scroll(axis, -1), ArrowLeft: () => view.fade(-0.1), ArrowRight: () => view.fade(0.1),
    "+": () => view.zoomBy(1.25), "-": () => view.zoomBy(0.8), 1: () => view.set({ layout: "planes" }),
    2: () => view.set({ layout: "four" }), 3: () => view.set({ layout: "volume" }), " ": () => mode("blink"),
    o: () => view.set({ mode: "blend" }), c: () => mode("checker"), s: () => mode("swipe"), t: () => flip("tint"),
    i: () => flip("smooth"), k: () => flip("crosshair"), x: () => view.set({ back: view.front, front: view.back }),
    z: () => view.turn(), r: () => view.reset(),
  };
  if (NAMES[key] && view.titles[NAMES[key]]) view.set({ front: NAMES[key] });
  else if (actions[key]) actions[key]();
  else return false;
  return true;
};

// Show in the toolbar what is set.
CFM.showBar = function (view) {
  for (const [name, own] of [["view", "layout"], ["mode", "mode"]])
    for (const button of document.querySelectorAll(`[data-${name}]`)) button.classList.toggle("on", button.dataset[name] === view[own]);
  document.querySelector('[data-view="volume"]').hidden = view.kase.picture || !CFM.canShowVolume(view);
  $("alpha").value = Math.round(100 * view.alpha);
  $("alpha-told").textContent = `${Math.round(100 * view.alpha)} %`;
  for (const side of ["back", "front"]) $(side).value = view[side];
  for (const name of ["tint", "smooth"]) $(name).checked = view[name];
  $("tint-label").hidden = view.layers.b.kind !== "grey" || view.layers.fused.kind !== "grey" || view.paletteName === "grey";
};

CFM.fillChoices = function (view) {
  for (const side of ["back", "front"]) {
    const select = CFM.clear($(side));
    for (const [name, title] of Object.entries(view.titles)) select.add(new Option(title, name));
  }
  const places = CFM.clear($("slices"));
  view.kase.shape.forEach((count, axis) => {
    if (view.kase.picture || count < 2) return;
    const label = places.appendChild(document.createElement("label"));
    label.append(view.kase.sided ? PLANES[axis] : `axis ${axis + 1}`);
    const slider = label.appendChild(document.createElement("input"));
    Object.assign(slider, { type: "range", min: 0, max: count - 1, value: view.cross[axis] });
    slider.dataset.axis = axis;
    slider.addEventListener("input", () => view.goTo(view.cross.map((place, other) => (other === axis ? Number(slider.value) : place))));
  });
  const windows = CFM.clear($("windows"));
  for (const name of ["a", "b"]) if (view.layers[name].kind === "grey") windows.appendChild(windowBox(view, name));
};

// Numbers, presets and colors of the window of a source.
function windowBox(view, name) {
  const layer = view.layers[name];
  const factor = layer.factor ?? 1;
  const box = document.createElement("div");
  box.className = "window";
  box.id = `window-${name}`;
  box.append(`${view.titles[name]} ${layer.unit ?? ""} `);
  const inputs = [0, 1].map((end) => {
    const input = box.appendChild(Object.assign(document.createElement("input"), { type: "number", step: "any" }));
    input.addEventListener("change", () => {
      input.blur();
      const window = view.windowOf(name);
      window[end] = Number(input.value) / factor;
      if (window[1] > window[0]) view.setWindow(name, window);
      else box.update();
    });
    return input;
  });
  const select = box.appendChild(document.createElement("select"));
  select.add(new Option("as fused", ""));
  if (layer.unit === "HU") for (const preset of Object.keys(PRESETS)) select.add(new Option(preset, preset));
  select.add(new Option("all values", "all"));
  select.addEventListener("change", () => {
    const windows = { "": null, all: [layer.low, layer.high] };
    view.setWindow(name, select.value in windows ? windows[select.value] : [...PRESETS[select.value]]);
  });
  const palette = name === "b" ? box.appendChild(document.createElement("select")) : null;
  if (palette) {
    palette.id = "palette";
    for (const known of Object.keys(CFM.facts.palettes)) palette.add(new Option(known.replaceAll("_", " "), known));
    palette.addEventListener("change", () => view.set({ paletteName: palette.value }));
  }
  const bar = box.appendChild(Object.assign(document.createElement("canvas"), { width: 256, height: 1 }));
  const ends = box.appendChild(document.createElement("div"));
  ends.append(document.createElement("span"), document.createElement("span"));
  box.update = () => {
    const window = view.windowOf(name);
    const texts = [0, 1].map((end) => CFM.numberText(window[end] * factor, ((window[1] - window[0]) * factor) / 1000));
    // What is being typed stays, whatever draws the page anew meanwhile.
    inputs.forEach((input, end) => (input === document.activeElement ? null : (input.value = texts[end])));
    [...ends.children].forEach((span, end) => (span.textContent = `${texts[end]} ${layer.unit ?? ""}`));
    if (!view.windows[name]) select.value = "";
    if (palette) palette.value = view.paletteName;
    const colors = name === "b" ? view.palette : CFM.palette("grey");
    const pixels = new ImageData(256, 1);
    for (let level = 0; level < 256; level++) pixels.data.set([...colors.subarray(3 * level, 3 * level + 3), 255], 4 * level);
    bar.getContext("2d").putImageData(pixels, 0, 0);
  };
  return box;
}
