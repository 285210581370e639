"use strict";
// Slices of a case as pixels: the patient's right (or front) on the left, the front (or head) on top.

const AMBER = [255, 176, 46];

// Return how pixels of a slice across `axis` lie in the row of voxels.
CFM.planeOf = function (kase, axis, place) {
  const [nx, ny] = kase.shape;
  const strides = [1, nx, nx * ny];
  const [across, up] = [0, 1, 2].filter((other) => other !== axis);
  const [width, height] = [kase.shape[across], kase.shape[up]];
  const plane = { axis, across, up, width, height, start: place * strides[axis], columns: strides[across], rows: strides[up] };
  if (!kase.picture) {
    plane.start += (width - 1) * strides[across] + (height - 1) * strides[up];
    plane.columns *= -1;
    plane.rows *= -1;
  }
  return plane;
};

// Call `paint(voxel, byte of the pixel)` for each pixel of a plane.
function eachPixel(plane, paint) {
  let at = 0;
  for (let row = 0; row < plane.height; row++) {
    let voxel = plane.start + row * plane.rows;
    for (let column = 0; column < plane.width; column++, at += 4, voxel += plane.columns) paint(voxel, at);
  }
}

function paintColor(layer, plane, out) {
  const { data, count } = layer;
  eachPixel(plane, (voxel, at) => {
    for (let color = 0; color < 3; color++) out[at + color] = data[voxel + color * count];
  });
}

const levelsOfFused = (layer) =>
  layer.kind === "grey"
    ? (voxel) => layer.table[layer.data[voxel]]
    : (voxel) => CFM.luma(...[0, 1, 2].map((color) => layer.data[voxel + color * layer.count]));

const PAINTERS = {
  a(view, plane, out) {
    const { data, table } = view.layers.a;
    eachPixel(plane, (voxel, at) => (out[at] = out[at + 1] = out[at + 2] = table[data[voxel]]));
  },
  b(view, plane, out) {
    const layer = view.layers.b;
    const covered = view.layers.covered;
    const colors = view.palette;
    if (layer.kind === "rgb") paintColor(layer, plane, out);
    else
      eachPixel(plane, (voxel, at) => {
        const from = 3 * layer.table[layer.data[voxel]];
        for (let color = 0; color < 3; color++) out[at + color] = colors[from + color];
      });
    if (covered) eachPixel(plane, (voxel, at) => covered.data[voxel] || out.fill(0, at, at + 3));
  },
  fused(view, plane, out) {
    const { fused, b, covered } = view.layers;
    if (fused.kind === "rgb") return paintColor(fused, plane, out);
    const tint = view.tint && b.kind === "grey" && view.paletteName !== "grey";
    eachPixel(plane, (voxel, at) => {
      const level = fused.table[fused.data[voxel]];
      out[at] = out[at + 1] = out[at + 2] = level;
      if (!tint || (covered && !covered.data[voxel])) return;
      const from = 3 * b.table[b.data[voxel]];
      const own = CFM.luma(view.palette[from], view.palette[from + 1], view.palette[from + 2]);
      for (let color = 0; color < 3; color++) out[at + color] = level + view.palette[from + color] - own;
    });
  },
  difference(view, plane, out) {
    const { a, fused } = view.layers;
    const level = levelsOfFused(fused);
    eachPixel(plane, (voxel, at) => CFM.differenceColor(level(voxel) - a.table[a.data[voxel]], out, at));
  },
  share(view, plane, out) {
    const { share } = view.layers;
    eachPixel(plane, (voxel, at) => CFM.shareColor(CFM.valueOf(share, voxel), out, at));
  },
};

function painted(view, name, plane) {
  const out = new Uint8ClampedArray(4 * plane.width * plane.height).fill(255);
  PAINTERS[name](view, plane, out);
  return out;
}

// Return the share of the upper image in each pixel, a function of column and row.
function mixing(view, plane) {
  if (view.mode === "checker") {
    const sides = [plane.across, plane.up].map((axis) => Math.max(1, Math.round(view.checker / view.kase.spacing[axis])));
    return (column, row) => (Math.floor(column / sides[0]) + Math.floor(row / sides[1])) % 2;
  }
  if (view.mode === "swipe") return (column) => (column + 0.5 < view.swipe * plane.width ? 0 : 1);
  const share = view.mode === "blink" ? Number(view.blink) : view.alpha;
  return () => share;
}

// Mix two images pixel by pixel, out = (1 - share) below + share above; return RGBA of the slice.
CFM.compose = function (view, plane, back, front) {
  const plain = view.mode === "blink" ? Number(view.blink) : view.mode === "blend" ? view.alpha : 0.5;
  if (!front || plain === 0) return withEnd(view, plane, painted(view, back, plane));
  if (plain === 1) return withEnd(view, plane, painted(view, front, plane));
  const below = painted(view, back, plane);
  const above = painted(view, front, plane);
  const share = mixing(view, plane);
  for (let row = 0, at = 0; row < plane.height; row++)
    for (let column = 0; column < plane.width; column++, at += 4) {
      const part = share(column, row);
      for (let color = at; color < at + 3; color++) below[color] += part * (above[color] - below[color]);
    }
  return withEnd(view, plane, below);
};

// Mark where the second image ends.
function withEnd(view, plane, pixels) {
  const covered = view.layers.covered;
  if (!covered) return pixels;
  eachPixel(plane, (voxel, at) => {
    const column = (at / 4) % plane.width;
    const here = covered.data[voxel] > 0;
    const right = column && covered.data[voxel - plane.columns] > 0 !== here;
    const upper = at >= 4 * plane.width && covered.data[voxel - plane.rows] > 0 !== here;
    if (right || upper) for (let color = 0; color < 3; color++) pixels[at + color] = AMBER[color];
  });
  return pixels;
}
