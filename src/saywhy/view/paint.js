// Drawing on a canvas: heat, hatching, marks and the colour bar.

import { heatOf, strengthOf } from "./maps.js";

const HEAT_SIDE = 640; // pixels of the longer side of the heat's canvas; more is not visible and slows the sliders
const FADE = 0.75; // the exponent of opacity over strength; as in overlay.py

/** A canvas outside of the page. */
export function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** Width and height of the heat's canvas, for an image on a canvas. */
export function heatSize(canvas) {
  const factor = Math.min(1, HEAT_SIDE / Math.max(canvas.width, canvas.height));
  return [Math.max(1, Math.round(canvas.width * factor)), Math.max(1, Math.round(canvas.height * factor))];
}

/** The heat of raw values as an image with opacity; low heat is more transparent. */
export function heatImage(values, width, height, scale, table, { opacity, threshold }) {
  const canvas = blank(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const strength = strengthOf(scale, values[i]);
    if (!(strength > 0 && strength >= threshold)) continue; // NaN as well
    const step = 3 * Math.round(heatOf(scale, values[i]) * 255);
    image.data[4 * i] = table[step];
    image.data[4 * i + 1] = table[step + 1];
    image.data[4 * i + 2] = table[step + 2];
    image.data[4 * i + 3] = Math.round(255 * opacity * strength ** FADE);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Hatch the margin that the network did not see; the crop box is in canvas pixels. */
export function hatchUnseen(context, cropBox) {
  const { width, height } = context.canvas;
  const [left, top, right, bottom] = cropBox;
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(left, top, right - left, bottom - top);
  context.clip("evenodd");
  hatch(context, width, height);
  context.restore();
}

/** Fill a canvas, or its clip, with translucent grey and diagonal lines. */
export function hatch(context, width, height, gap = Math.max(width, height) / 56) {
  context.fillStyle = "rgba(74, 78, 84, 0.66)";
  context.fillRect(0, 0, width, height);
  context.strokeStyle = "rgba(255, 255, 255, 0.26)";
  context.lineWidth = gap / 4;
  context.beginPath();
  for (let x = -height; x < width; x += gap) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
}

/** Draw a path twice, light on dark, so that it shows on every image. */
function outlined(context, unit, path) {
  for (const [style, width] of [["rgba(0, 0, 0, 0.75)", 2.4 * unit], ["#ffffff", 1.1 * unit]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    path();
    context.stroke();
  }
}

/** Draw a box (left, top, right, bottom) in canvas pixels. */
export function drawBox(context, [left, top, right, bottom], unit) {
  outlined(context, unit, () => context.rect(left, top, right - left, bottom - top));
}

/** Draw a ring round the peak: the centre of the strongest cell. */
export function drawPeak(context, [x, y], unit) {
  outlined(context, unit, () => {
    context.arc(x, y, 5 * unit, 0, 2 * Math.PI);
    context.moveTo(x + unit, y);
    context.arc(x, y, unit, 0, 2 * Math.PI);
  });
}

/** Draw the cross at the point that is read; its middle is open and shows the pixel. */
export function drawCross(context, [x, y], unit) {
  const arms = [[1, 0], [-1, 0], [0, 1], [0, -1]];
  outlined(context, unit, () => {
    for (const [dx, dy] of arms) {
      context.moveTo(x + 3 * unit * dx, y + 3 * unit * dy);
      context.lineTo(x + 10 * unit * dx, y + 10 * unit * dy);
    }
  });
}

/** Draw the colour bar, low end left. */
export function drawBar(canvas, table) {
  const context = canvas.getContext("2d");
  for (let i = 0; i < 256; i++) {
    context.fillStyle = `rgb(${table[3 * i]}, ${table[3 * i + 1]}, ${table[3 * i + 2]})`;
    context.fillRect((i * canvas.width) / 256, 0, canvas.width / 256 + 1, canvas.height);
  }
}
