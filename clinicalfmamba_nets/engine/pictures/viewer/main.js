"use strict";
// One case on the screen: what is shown of it, and what changes when the user asks for something.

const FIRST = { layout: "planes", mode: "blend", alpha: 1, back: "a", front: "fused", swipe: 0.5, checker: 16, zoom: 1, blink: true, tint: true, smooth: true, crosshair: true };

CFM.palette = (name) => CFM.bytesOf(CFM.facts.palettes[name] ?? CFM.facts.palettes.grey);

CFM.View = class {
  constructor() {
    Object.assign(this, FIRST);
    this.panes = [];
    this.timer = setInterval(() => this.mode === "blink" && this.layers && this.set({ blink: !this.blink }), 600);
    addEventListener("resize", () => this.draw());
  }

  async open(kase, textOf) {
    const number = (this.opening = (this.opening ?? 0) + 1);
    const layers = kase.shape ? await CFM.layersOf(kase, textOf) : null;
    if (number !== this.opening) return;
    Object.assign(this, { kase, layers, windows: { a: null, b: null }, active: null });
    CFM.tellCase(this, CFM.facts.run);
    for (const id of ["stage", "slices", "windows"]) CFM.clear($(id));
    for (const id of ["values", "trust"]) CFM.clear($(id).tBodies[0]);
    this.panes = [];
    $("bar").hidden = !layers;
    if (!layers) return CFM.tellLost($("stage"), kase);
    const [a, b] = kase.labels;
    this.titles = { a, b: b === a ? `${b} (B)` : b, fused: "fused", difference: `fused - ${a}`, ...(layers.share ? { share: `share of ${a}` } : {}) };
    this.paletteName = kase.palette;
    this.palette = CFM.palette(kase.palette);
    for (const side of ["back", "front"]) if (!this.titles[this[side]]) this[side] = FIRST[side];
    this.cross = kase.shape.map((count) => Math.floor(count / 2));
    this.center = [...this.cross];
    this.axis = kase.native ?? 2;
    if (kase.picture && this.layout === "volume") this.layout = "planes";
    CFM.prepareTables(this);
    CFM.fillChoices(this);
    CFM.tellTrust(this);
    this.arrange();
  }

  // Make the pictures of the layout.
  arrange() {
    const stage = CFM.clear($("stage"));
    CFM.closeVolume();
    this.panes = [];
    const add = (axis, title, pictures) => this.panes.push(new CFM.Pane(stage, this, axis, title, pictures));
    const { kase, titles } = this;
    const planes = [2, 1, 0].filter((axis) => kase.shape.every((count, other) => other === axis || count > 1));
    stage.className = this.layout;
    this.told = false;
    if (this.layout === "four") for (const name of ["a", "b", "fused", "difference"]) add(this.axis, titles[name], [name]);
    else if (this.layout === "volume") CFM.showVolume(this, stage);
    else if (planes.length === 1) add(planes[0]);
    else {
      for (const axis of planes) add(axis);
      CFM.offerVolume(this, stage);
    }
    if (this.layout === "planes" && planes.length === 1) stage.className = "single";
    this.draw();
  }

  draw() {
    if (!this.layers) return;
    for (const pane of this.panes) pane.draw();
    for (const slider of document.querySelectorAll("#slices input")) slider.value = this.cross[slider.dataset.axis];
    if (!this.told) {
      for (const box of $("windows").children) box.update();
      CFM.showBar(this);
      this.told = true;
    }
    CFM.tellValues(this, this.pointed ?? this.cross);
    CFM.followVolume(this);
  }

  // Draw once before the next frame, however often it is asked for.
  later() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  set(changes) {
    const { layout, axis } = this;
    Object.assign(this, changes);
    if ("paletteName" in changes) this.palette = CFM.palette(this.paletteName);
    this.told = false;
    if (!this.layers) return;
    if (this.layout !== layout || this.axis !== axis) this.arrange();
    else this.later();
  }

  goTo(voxel) {
    this.cross = voxel.map((place, axis) => Math.min(this.kase.shape[axis] - 1, Math.max(0, Math.round(place))));
    this.pointed = null;
    this.later();
  }

  hover(voxel) {
    this.pointed = voxel;
    if (this.layers) CFM.tellValues(this, voxel ?? this.cross);
  }

  scroll(axis, steps) {
    this.goTo(this.cross.map((place, other) => (other === axis ? place + steps : place)));
  }

  fade(step) {
    this.set({ mode: "blend", alpha: Math.min(1, Math.max(0, Math.round(20 * (this.alpha + step)) / 20)) });
  }

  zoomBy(factor) {
    if (this.zoom === 1) this.center = [...this.cross];
    this.set({ zoom: Math.min(16, Math.max(1, this.zoom * factor)) });
  }

  pan(pane, x, y) {
    if (this.zoom === 1) return;
    const { across, up } = pane.plane;
    const sign = this.kase.picture ? -1 : 1;
    this.center[across] += (sign * x * pane.ratio) / pane.scale / this.kase.spacing[across];
    this.center[up] += (sign * y * pane.ratio) / pane.scale / this.kase.spacing[up];
    this.later();
  }

  turn() {
    const planes = [2, 1, 0].filter((axis) => this.kase.shape.every((count, other) => other === axis || count > 1));
    this.set({ axis: planes[(planes.indexOf(this.axis) + 1) % planes.length] });
  }

  reset() {
    const { layout } = this;
    Object.assign(this, FIRST, { layout, windows: { a: null, b: null }, cross: this.kase.shape.map((count) => Math.floor(count / 2)), paletteName: this.kase.palette });
    this.palette = CFM.palette(this.paletteName);
    this.told = false;
    CFM.prepareTables(this);
    this.draw();
  }

  // Window of a source, [low, high] in the values of its file.
  windowOf(name) {
    const { knots } = this.layers[name];
    return [...(this.windows[name] ?? [knots[0][0], knots.at(-1)[0]])];
  }

  setWindow(name, window) {
    this.windows[name] = window;
    this.told = false;
    CFM.prepareTables(this);
    this.later();
  }

  dragWindow(x, y, second) {
    const name = second && this.layers.b.kind === "grey" ? "b" : "a";
    const [low, high] = this.windowOf(name);
    const width = Math.max((high - low) * 1.01 ** x, this.layers[name].step);
    const middle = (low + high) / 2 - (y * (high - low)) / 200;
    this.setWindow(name, [middle - width / 2, middle + width / 2]);
  }
};

CFM.openCase = async function (number) {
  CFM.number = number;
  for (const row of $("index").rows) row.className = Number(row.dataset.number) === number ? "on" : "";
  const kase = CFM.facts.cases[number];
  delete document.documentElement.dataset.ready;
  await CFM.view.open(kase, (id) => $(id).textContent);
  document.documentElement.dataset.ready = kase.id;
};

CFM.openNext = function (step) {
  const { cases, own } = CFM.facts;
  const next = cases[CFM.number + step];
  if (next && next.file === own) CFM.openCase(CFM.number + step);
  else if (next) location.href = `${next.file}#${next.id}`;
};

CFM.start = function () {
  CFM.facts = JSON.parse($("facts").textContent);
  const { run, cases, own } = CFM.facts;
  $("title").textContent = run.folder ? `ClinicalFMamba: ${run.folder}` : "ClinicalFMamba";
  document.title = $("title").textContent;
  $("notice").textContent = run.notice;
  CFM.view = new CFM.View();
  CFM.listenToBar(CFM.view);
  CFM.tellIndex(cases, own, CFM.openCase);
  const wanted = cases.findIndex((kase) => kase.id === location.hash.slice(1) && kase.file === own);
  CFM.openCase(wanted >= 0 ? wanted : Math.max(0, cases.findIndex((kase) => kase.file === own)));
};

CFM.start();
