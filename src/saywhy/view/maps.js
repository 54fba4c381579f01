// Raw maps, their position on the original image, and their colour scale.
// The rules are those of geometry.py and scale.py: a value read here equals the value in Python.

/** Decode a base64 text to bytes. */
export function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** Decode a base64 text to little-endian float32 values. */
export function floats(base64) {
  const view = new DataView(bytes(base64).buffer);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Along one axis: the cells before and after a point, and the weight of the latter; null outside of the crop. */
function neighbours(cells, start, stop, point) {
  if (!(point >= start && point < stop)) return null;
  const position = Math.min(Math.max(((point - start) / (stop - start)) * cells - 0.5, 0), cells - 1);
  const before = Math.floor(position);
  return [before, Math.min(before + 1, cells - 1), position - before];
}

function mix(values, start, width, row, column) {
  const [top, bottom, down] = row;
  const [left, right, across] = column;
  const at = (y, x) => values[start + y * width + x];
  const first = at(top, left) * (1 - down) + at(bottom, left) * down;
  const second = at(top, right) * (1 - down) + at(bottom, right) * down;
  return first * (1 - across) + second * across;
}

/** The crop box of an image, or the boxes of its tiles. */
export function boxesOf(source) {
  return source.tiles?.length ? source.tiles.map((tile) => tile.box) : [source.crop_box];
}

/** The index of the box that holds a point of the image; -1 for none. */
function boxAt(boxes, x, y) {
  return boxes.findIndex(([left, top, right, bottom]) => x >= left && x < right && y >= top && y < bottom);
}

/** The raw value at a point of the original image; null where the network did not see the image. */
export function valueAt(map, boxes, x, y) {
  const [height, width] = map.grid.slice(-2);
  const tile = boxAt(boxes, x, y);
  if (tile < 0) return null;
  const [left, top, right, bottom] = boxes[tile];
  const row = neighbours(height, top, bottom, y);
  const column = neighbours(width, left, right, x);
  return mix(map.raw, tile * height * width, width, row, column);
}

/** The position of a point in the input: "x 3, y 4", or by the axes of its tile "x 3, y 4, z 7". */
export function placeAt(source, x, y) {
  const tile = source.tiles?.[boxAt(boxesOf(source), x, y)];
  if (!tile) return `x ${Math.floor(x)}, y ${Math.floor(y)}`;
  const [left, top, right, bottom] = tile.box;
  const shares = [(x - left) / (right - left), (y - top) / (bottom - top)];
  const along = ([name, start, stop], i) => `${name} ${Math.floor(start + (shares[i] ?? 0) * (stop - start))}`;
  return tile.axes.map(along).join(", ");
}

/** The map upsampled to a canvas of width x height for an image of the given size; NaN where there is no value. */
export function field(map, boxes, size, width, height) {
  const [gridHeight, gridWidth] = map.grid.slice(-2);
  const axis = (length, extent, cells, start, stop) =>
    Array.from({ length }, (_, i) => neighbours(cells, start, stop, ((i + 0.5) * extent) / length));
  const out = new Float32Array(width * height).fill(NaN);
  boxes.forEach(([left, top, right, bottom], tile) => {
    const rows = axis(height, size[1], gridHeight, top, bottom);
    const columns = axis(width, size[0], gridWidth, left, right);
    const start = tile * gridHeight * gridWidth;
    rows.forEach((row, y) => {
      if (!row) return;
      for (let x = 0; x < width; x++) {
        if (columns[x]) out[y * width + x] = mix(map.raw, start, gridWidth, row, columns[x]);
      }
    });
  });
  return out;
}

const FINE = 64 * 64; // from so many values (in each tile) on, a map is one of pixels; as in scale.py
const SHOWN = 0.99; // the quantile at which the scale of a map of pixels ends

/** The 99th percentile of the values, or of their magnitudes in a signed map. */
function percentile(maps, signed) {
  const finite = maps.flatMap((map) => [...map.raw].filter(Number.isFinite));
  const sizes = Float64Array.from(finite, (value) => (signed ? Math.abs(value) : value)).sort();
  return sizes[Math.floor(SHOWN * (sizes.length - 1))];
}

/** The raw values at the two ends of the colour bar, one scale for all of the maps; symmetric for signed maps. */
export function scaleOf(maps) {
  let low = Infinity;
  let high = -Infinity;
  for (const map of maps) {
    for (const value of map.raw) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return { low: 0, high: 0, signed: false };
  let reach = Math.max(-low, high);
  const cells = (map) => map.grid.at(-2) * map.grid.at(-1);
  if (maps.some((map) => cells(map) >= FINE)) reach = high = percentile(maps, low < 0) || reach;
  return low < 0 ? { low: -reach, high: reach, signed: true } : { low, high, signed: false };
}

/** Position on the colour bar, in [0, 1]; a flat scale gives 0; NaN stays NaN. */
export function heatOf(scale, value) {
  if (scale.low === scale.high) return Number.isNaN(value) ? NaN : 0;
  return Math.min(Math.max((value - scale.low) / (scale.high - scale.low), 0), 1);
}

/** The visible strength in [0, 1]: the heat, or for a signed map the distance from zero. */
export function strengthOf(scale, value) {
  const heat = heatOf(scale, value);
  return scale.signed ? Math.abs(2 * heat - 1) : heat;
}

/** A value relative to its scale, so that maps of different units can be subtracted: [-1, 1] if signed, else [0, 1]. */
export function levelOf(scale, value) {
  const heat = heatOf(scale, value);
  return scale.signed ? 2 * heat - 1 : heat;
}

/** A number in few characters: 0, 0.482, -12.31, 3.1e-7. */
export function short(value) {
  if (value === null || value === undefined) return "unknown";
  if (Number.isNaN(value)) return "not a number";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "minus infinite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4)));
  return text.replace("-", "\u2212");
}

/** A probability in [0, 1] as a percentage that is never rounded to 0 % or 100 %; as in legend.py. */
export function percent(share) {
  const value = 100 * share;
  return `${value > 0 && value < 0.1 ? "< 0.1" : value > 99.9 && value < 100 ? "> 99.9" : value.toFixed(1)} %`;
}
