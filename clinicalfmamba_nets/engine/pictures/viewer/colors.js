"use strict";
// From stored numbers to grey levels, and from grey levels to colors.

// Return the table of 65536 grey levels of a layer; `knots` are pairs of a value and a level in [0, 1].
CFM.greyTable = function (layer, knots) {
  const table = new Uint8Array(65536);
  const last = knots.length - 1;
  let piece = 0;
  for (let stored = 0; stored < 65536; stored++) {
    const value = stored * layer.step + layer.low;
    while (piece < last - 1 && value > knots[piece + 1][0]) piece++;
    const [x0, y0] = knots[piece];
    const [x1, y1] = knots[piece + 1];
    const level = value <= x0 ? y0 : value >= x1 ? y1 : y0 + ((y1 - y0) * (value - x0)) / (x1 - x0);
    table[stored] = Math.round(255 * Math.min(1, Math.max(0, level)));
  }
  return table;
};

CFM.luma = (red, green, blue) => 0.299 * red + 0.587 * green + 0.114 * blue;

// Return red, green and blue of 256 levels of a difference: blue below the middle, red above it.
CFM.differenceColor = function (level, out, at) {
  const strength = Math.max(-255, Math.min(255, 2 * level));
  out[at] = strength > 0 ? strength : 0;
  out[at + 1] = 0;
  out[at + 2] = strength < 0 ? -strength : 0;
};

const SHARE_A = [255, 160, 40];
const SHARE_B = [50, 130, 255];
CFM.shareColor = function (share, out, at) {
  for (let color = 0; color < 3; color++) out[at + color] = SHARE_B[color] + share * (SHARE_A[color] - SHARE_B[color]);
};

// Set up the tables of a case for its windows: `windows` holds [low, high] in the file's own values, or null.
CFM.prepareTables = function (view) {
  const { layers, windows } = view;
  for (const [name, own] of [["a", "a"], ["fused", "a"], ["b", "b"]]) {
    const layer = layers[name];
    if (layer.kind !== "grey") continue;
    const window = windows[own];
    layer.table = CFM.greyTable(layer, window ? [[window[0], 0], [window[1], 1]] : layer.knots);
  }
};
