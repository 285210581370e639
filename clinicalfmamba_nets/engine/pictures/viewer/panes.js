"use strict";
// One picture on the screen: a slice in proportion, its directions, a scale bar and the crosshair.

const SIDES = [["R", "L"], ["A", "P"], ["S", "I"]]; // left and right (or top and bottom) of a picture along x, y, z
const PLANES = ["sagittal", "coronal", "axial"];
const LETTER_SIZE = 14;

CFM.Pane = class {
  // `pictures` is [below, above] or [picture]; `title` stands above it.
  constructor(parent, view, axis, title, pictures) {
    Object.assign(this, { view, axis, title, pictures });
    this.box = parent.appendChild(document.createElement("div"));
    this.box.className = "pane";
    this.canvas = this.box.appendChild(document.createElement("canvas"));
    this.head = this.box.appendChild(document.createElement("p"));
    this.foot = this.box.appendChild(document.createElement("p"));
    this.foot.className = "told";
    this.slice = document.createElement("canvas");
    this.listen();
  }

  draw() {
    const { view, canvas } = this;
    const ratio = globalThis.devicePixelRatio || 1;
    const size = [this.box.clientWidth, this.box.clientHeight].map((side) => Math.max(1, Math.round(side * ratio)));
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    this.ratio = ratio;
    this.plane = CFM.planeOf(view.kase, this.axis, view.cross[this.axis]);
    const [back, front] = this.pictures ?? [view.back, view.front];
    this.pixels = CFM.compose(view, this.plane, back, front);
    if (this.slice.width !== this.plane.width) this.slice.width = this.plane.width;
    if (this.slice.height !== this.plane.height) this.slice.height = this.plane.height;
    this.slice.getContext("2d").putImageData(new ImageData(this.pixels, this.plane.width, this.plane.height), 0, 0);
    this.place();
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = view.smooth;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(this.slice, this.left, this.top, this.width, this.height);
    this.drawMarks(context);
    this.head.textContent = this.title ?? "";
    this.foot.textContent = this.caption();
  }

  // Find where the slice lies on the canvas, in its pixels.
  place() {
    const { view, plane, canvas } = this;
    const margin = (view.kase.sided ? 2 * LETTER_SIZE : 4) * this.ratio;
    const sides = [plane.width * view.kase.spacing[plane.across], plane.height * view.kase.spacing[plane.up]];
    const room = [Math.max(8, canvas.width - 2 * margin), Math.max(8, canvas.height - 2 * margin)];
    this.scale = Math.min(room[0] / sides[0], room[1] / sides[1]) * view.zoom;
    this.width = sides[0] * this.scale;
    this.height = sides[1] * this.scale;
    const [x, y] = view.zoom > 1 ? this.columnRow(view.center) : [plane.width / 2 - 0.5, plane.height / 2 - 0.5];
    this.left = canvas.width / 2 - ((x + 0.5) / plane.width) * this.width;
    this.top = canvas.height / 2 - ((y + 0.5) / plane.height) * this.height;
  }

  // Column and row of a voxel, [x, y, z], in this picture.
  columnRow(voxel) {
    const { plane, view } = this;
    const [column, row] = [voxel[plane.across], voxel[plane.up]];
    return view.kase.picture ? [column, row] : [plane.width - 1 - column, plane.height - 1 - row];
  }

  // Voxel under a point of the canvas in CSS pixels; null outside the image.
  voxelAt(x, y) {
    const { plane, view } = this;
    const column = Math.floor(((x * this.ratio - this.left) / this.width) * plane.width);
    const row = Math.floor(((y * this.ratio - this.top) / this.height) * plane.height);
    if (column < 0 || row < 0 || column >= plane.width || row >= plane.height) return null;
    const voxel = [...view.cross];
    voxel[plane.across] = view.kase.picture ? column : plane.width - 1 - column;
    voxel[plane.up] = view.kase.picture ? row : plane.height - 1 - row;
    return voxel;
  }

  // Point of a voxel's middle on the canvas, in its pixels.
  pointOf(voxel) {
    const [column, row] = this.columnRow(voxel);
    const { plane } = this;
    return [this.left + ((column + 0.5) / plane.width) * this.width, this.top + ((row + 0.5) / plane.height) * this.height];
  }

  drawMarks(context) {
    const { view, canvas, plane, ratio } = this;
    context.font = `${LETTER_SIZE * ratio}px system-ui, sans-serif`;
    context.fillStyle = context.strokeStyle = "#e1e1e4";
    context.textAlign = "center";
    context.textBaseline = "middle";
    if (view.kase.sided) {
      const [left, right] = SIDES[plane.across];
      const [top, bottom] = SIDES[plane.up];
      const inset = LETTER_SIZE * ratio;
      context.fillText(left, inset, canvas.height / 2);
      context.fillText(right, canvas.width - inset, canvas.height / 2);
      context.fillText(top, canvas.width / 2, inset);
      context.fillText(bottom, canvas.width / 2, canvas.height - inset);
      this.drawRuler(context);
    }
    this.drawCross(context);
  }

  drawRuler(context) {
    const { canvas, ratio } = this;
    const lengths = [1, 2, 5, 10, 20, 50, 100, 200].filter((length) => length * this.scale <= 0.35 * canvas.width);
    this.ruler = lengths.at(-1) ?? 1;
    const [end, y] = [canvas.width - 8 * ratio, canvas.height - 8 * ratio];
    context.lineWidth = 2 * ratio;
    context.beginPath();
    context.moveTo(end - this.ruler * this.scale, y);
    context.lineTo(end, y);
    context.stroke();
    context.textAlign = "right";
    context.fillText(`${this.ruler} mm`, end, y - 10 * ratio);
  }

  drawCross(context) {
    const { canvas, view } = this;
    if (!view.crosshair) return;
    const [x, y] = this.pointOf(view.cross);
    const gap = 6 * this.ratio;
    context.lineWidth = 1;
    context.strokeStyle = "rgba(120, 220, 120, 0.8)";
    context.beginPath();
    for (const [from, to] of [[[0, y], [x - gap, y]], [[x + gap, y], [canvas.width, y]], [[x, 0], [x, y - gap]], [[x, y + gap], [x, canvas.height]]]) {
      context.moveTo(...from);
      context.lineTo(...to);
    }
    context.stroke();
  }

  caption() {
    const { kase, cross } = this.view;
    if (kase.picture) return "";
    const count = kase.shape[this.axis];
    const stored = CFM.storedOf(kase, cross);
    const axis = kase.stored.findIndex((row) => Math.abs(row[this.axis]) > 0.5);
    return `${kase.sided ? PLANES[this.axis] + ", " : ""}slice ${stored[axis] + 1} of ${count}`;
  }

  listen() {
    const { canvas, view } = this;
    const voxel = (event) => this.voxelAt(event.offsetX, event.offsetY);
    canvas.addEventListener("mousemove", (event) => {
      if (event.buttons & 2) return view.dragWindow(event.movementX, event.movementY, event.shiftKey);
      if (event.buttons & 4) return view.pan(this, event.movementX, event.movementY);
      if (event.buttons & 1 && view.mode === "swipe") return view.set({ swipe: this.shareAt(event.offsetX) });
      if (event.buttons & 1) return voxel(event) && view.goTo(voxel(event));
      view.hover(voxel(event));
    });
    canvas.addEventListener("mousedown", (event) => {
      view.active = this;
      if (event.button === 0 && voxel(event) && view.mode !== "swipe") view.goTo(voxel(event));
    });
    canvas.addEventListener("mouseenter", () => (view.active = this));
    canvas.addEventListener("mouseleave", () => view.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey) view.zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
      else view.scroll(this.axis, event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
  }

  shareAt(x) {
    return Math.min(1, Math.max(0, (x * this.ratio - this.left) / this.width));
  }
};

// Index as stored in the file, from 0, of a voxel of the page.
CFM.storedOf = function (kase, voxel) {
  if (kase.picture) return voxel;
  return kase.stored.slice(0, 3).map((row) => Math.round(row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]));
};

// Place in mm to the right, front and top, of a voxel.
CFM.placeOf = (kase, voxel) =>
  kase.affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
