"use strict";
// The 3D view by NiiVue, opened on demand: the pictures below and above as two of its volumes on one grid.

const VIEWS = { render: 4, axial: 0, coronal: 1, sagittal: 2, multi: 3 };

CFM.canShowVolume = (view) => Boolean($("program-3d")) && view.kase.sided && Math.min(...view.kase.shape) > 1;

// Start NiiVue's program, which the page holds as text until it is wanted.
CFM.startNiivue = function () {
  if (globalThis.niivue) return;
  const script = document.createElement("script");
  script.textContent = $("program-3d").textContent;
  document.body.appendChild(script);
};

// Return a layer as a NIfTI file: stored numbers, slope 1, one matrix in both forms.
CFM.niftiOf = function (kase, numbers) {
  const buffer = new ArrayBuffer(352 + numbers.byteLength);
  const head = new DataView(buffer);
  head.setInt32(0, 348, true);
  [3, ...kase.shape, 1, 1, 1, 1].forEach((side, place) => head.setInt16(40 + 2 * place, side, true));
  head.setInt16(70, 512, true); // unsigned 16-bit numbers
  head.setInt16(72, 16, true);
  const affine = kase.affine;
  const steps = [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]));
  [1, ...steps, 0, 0, 0, 0].forEach((side, place) => head.setFloat32(76 + 4 * place, side, true));
  head.setFloat32(108, 352, true);
  head.setFloat32(112, 1, true);
  head.setUint8(123, 2); // mm
  head.setInt16(254, 1, true);
  affine.slice(0, 3).forEach((row, r) => row.forEach((value, c) => head.setFloat32(280 + 16 * r + 4 * c, value, true)));
  [0x6e, 0x2b, 0x31, 0].forEach((byte, place) => head.setUint8(344 + place, byte));
  new Uint16Array(buffer, 352).set(numbers);
  return buffer;
};

// Return the numbers, window and palette of a picture for NiiVue; a difference is made of the grey levels of both.
function volumeOf(view, name) {
  const { layers } = view;
  if (name === "difference") {
    const { a, fused } = layers;
    const numbers = new Uint16Array(a.count);
    const level = levelsOfFused(fused);
    for (let i = 0; i < a.count; i++) numbers[i] = 255 + Math.round(level(i)) - a.table[a.data[i]];
    return { numbers, low: 127, high: 383, palette: "difference" };
  }
  const layer = layers[name];
  if (layer.kind === "rgb") {
    const numbers = new Uint16Array(layer.count);
    for (let i = 0; i < layer.count; i++) numbers[i] = CFM.luma(...[0, 1, 2].map((color) => layer.data[i + color * layer.count]));
    return { numbers, low: 0, high: 255, palette: "grey" };
  }
  const window = name === "share" ? [0, 1] : view.windowOf(name === "b" ? "b" : "a");
  const [low, high] = window.map((value) => (value - layer.low) / layer.step);
  return { numbers: layer.data, low, high, palette: name === "b" ? view.paletteName : name === "share" ? "share" : "grey" };
}

function colorsOf(name) {
  const color = new Uint8ClampedArray(4);
  const nodes = { R: [], G: [], B: [], A: [], I: [] };
  const table = CFM.facts.palettes[name] ? CFM.palette(name) : null;
  for (let level = 0; level < 256; level++) {
    if (name === "difference") CFM.differenceColor(level - 128, color, 0);
    else if (name === "share") CFM.shareColor(level / 255, color, 0);
    else color.set(table.subarray(3 * level, 3 * level + 3));
    ["R", "G", "B"].forEach((key, place) => nodes[key].push(color[place]));
    nodes.A.push(level === 0 ? 0 : 255);
    nodes.I.push(level);
  }
  return nodes;
}

async function loadVolumes(view, shown) {
  const { viewer } = shown;
  const wanted = [view.back, view.front].map((name) => [name, view.paletteName, ...view.windowOf("a"), ...(view.layers.b.kind === "grey" ? view.windowOf("b") : [])].join());
  if (shown.loaded === wanted.join(";")) return;
  shown.loaded = wanted.join(";");
  while (viewer.volumes.length) viewer.removeVolumeByIndex(0);
  for (const name of [view.back, view.front]) {
    const { numbers, low, high, palette } = volumeOf(view, name);
    viewer.addColormap(`page ${palette}`, colorsOf(palette));
    const image = await globalThis.niivue.NVImage.loadFromUrl({
      url: CFM.niftiOf(view.kase, numbers), name: `${name}.nii`, colormap: `page ${palette}`, cal_min: low, cal_max: high,
      opacity: viewer.volumes.length ? view.alpha : 1,
    });
    viewer.addVolume(image);
  }
  shown.opacity = view.alpha;
}

// Fill the stage with NiiVue.
CFM.showVolume = async function (view, stage) {
  const box = stage.appendChild(document.createElement("div"));
  box.className = "pane";
  const canvas = box.appendChild(document.createElement("canvas"));
  const told = box.appendChild(document.createElement("p"));
  told.textContent = "opening";
  CFM.startNiivue();
  const viewer = new globalThis.niivue.Niivue({
    dragAndDropEnabled: false, isSliceMM: true, isRadiologicalConvention: true, backColor: [0, 0, 0, 1], show3Dcrosshair: true,
    logLevel: "error", isResizeCanvas: true, sagittalNoseLeft: true,
  });
  const shown = (CFM.shown = { viewer, box });
  try {
    await viewer.attachToCanvas(canvas);
    viewer.setSliceType(VIEWS.multi);
    viewer.opts.multiplanarShowRender = 1; // always beside the planes
    await loadVolumes(view, shown);
  } catch (error) {
    told.textContent = `no 3D view: ${error.message}`;
    return;
  }
  if (CFM.shown !== shown) return;
  viewer.onLocationChange = (place) => {
    if (shown.moving) return;
    const voxel = CFM.voxelOf(view.kase, place.mm);
    shown.from = voxel.join();
    view.goTo(voxel);
  };
  told.textContent = "by NiiVue";
  shown.ready = true;
  await CFM.followVolume(view);
  document.documentElement.dataset.volume = "ready";
};

// Voxel of a place in mm: the matrix has right angles or nearly, so that its inverse is stable.
CFM.voxelOf = function (kase, mm) {
  const columns = [0, 1, 2].map((axis) => kase.affine.slice(0, 3).map((row) => row[axis]));
  const cross = (p, q) => [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
  const dot = (p, q) => p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
  const way = [0, 1, 2].map((axis) => mm[axis] - kase.affine[axis][3]);
  const volume = dot(columns[0], cross(columns[1], columns[2]));
  return [0, 1, 2].map((axis) => dot(way, cross(columns[(axis + 1) % 3], columns[(axis + 2) % 3])) / volume);
};

// Bring NiiVue to what the page shows: crosshair, opacity, pictures.
CFM.followVolume = async function (view) {
  const shown = CFM.shown;
  if (!shown?.ready) return;
  await loadVolumes(view, shown);
  const alpha = view.mode === "blink" ? Number(view.blink) : view.alpha;
  if (shown.opacity !== alpha) shown.viewer.setOpacity(1, (shown.opacity = alpha));
  if (shown.from === view.cross.join()) return;
  shown.from = view.cross.join();
  shown.moving = true;
  shown.viewer.scene.crosshairPos = shown.viewer.mm2frac(CFM.placeOf(view.kase, view.cross), 0, true);
  shown.viewer.drawScene();
  shown.moving = false;
};

CFM.closeVolume = function () {
  const context = CFM.shown?.viewer.gl;
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  CFM.shown = null;
  delete document.documentElement.dataset.volume;
};

// Fill the fourth place of the planes with the way to the 3D view.
CFM.offerVolume = function (view, stage) {
  if (!CFM.canShowVolume(view)) return;
  const box = stage.appendChild(document.createElement("div"));
  box.className = "pane";
  const words = box.appendChild(document.createElement("p"));
  words.className = "center";
  const button = words.appendChild(document.createElement("button"));
  button.textContent = "3D view by NiiVue (3)";
  button.addEventListener("click", () => view.set({ layout: "volume" }));
};
