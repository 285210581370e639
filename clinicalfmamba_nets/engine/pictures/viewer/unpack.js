"use strict";
// Unpacks the images of the page: base64, zlib, folded differences of 16-bit numbers, low bytes before high bytes.
const CFM = (globalThis.CFM = { pages: null });

CFM.bytesOf = function (text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
};

CFM.inflate = async function (bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

CFM.numbersOf = function (bytes) {
  const count = bytes.length / 2;
  const numbers = new Uint16Array(count);
  let value = 0;
  for (let i = 0; i < count; i++) {
    const folded = bytes[i] | (bytes[count + i] << 8);
    value = (value + ((folded >> 1) ^ -(folded & 1))) & 65535;
    numbers[i] = value;
  }
  return numbers;
};

CFM.unpack = async function (text) {
  return CFM.numbersOf(await CFM.inflate(CFM.bytesOf(text)));
};

// Return the layers of a case with their numbers in `data`, and the count of voxels of a layer.
CFM.layersOf = async function (kase, textOf) {
  const layers = {};
  const count = kase.shape[0] * kase.shape[1] * kase.shape[2];
  const unpacked = Object.entries(kase.layers).map(async ([name, facts]) => {
    layers[name] = { name, count, ...facts, data: await CFM.unpack(textOf(`${kase.id}-${name}`)) };
  });
  await Promise.all(unpacked);
  return layers;
};

CFM.valueOf = (layer, index) => layer.data[index] * layer.step + layer.low;
