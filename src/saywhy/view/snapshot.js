// The current view as one image, for download.

import { blank } from "./paint.js";

/** Return the figures side by side on white, with their legends below. */
export function snapshot(figures) {
  const width = Math.max(...figures.map((figure) => figure.canvas.width));
  const unit = width / 40;
  const font = `${unit}px system-ui, sans-serif`;
  const gap = unit;
  const ruler = blank(1, 1).getContext("2d");
  ruler.font = font;
  const columns = figures.map((figure) => {
    const margin = figure.hasMargin ? "hatched: not seen by the network" : "";
    const words = [figure.title.textContent, figure.details.textContent, figure.note.textContent, margin];
    return words.filter(Boolean).flatMap((text) => wrap(ruler, text, width));
  });
  const tall = Math.max(...figures.map((figure) => figure.canvas.height));
  const lines = Math.max(...columns.map((column) => column.length));
  const canvas = blank(figures.length * (width + gap) + gap, gap + tall + unit * (4.2 + 1.4 * lines));
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = font;
  context.textBaseline = "top";
  figures.forEach((figure, index) => {
    const left = gap + index * (width + gap);
    let top = gap + tall + unit;
    context.drawImage(figure.canvas, left, gap);
    context.fillStyle = "#1a1c1e";
    const [low, high] = [figure.low.textContent, figure.high.textContent];
    const [before, after] = [low, high].map((text) => context.measureText(text).width + unit / 2);
    context.fillText(low, left, top);
    context.drawImage(figure.bar, left + before, top, width - before - after, unit);
    context.fillText(high, left + width - after + unit / 2, top);
    for (const line of columns[index]) context.fillText(line, left, (top += 1.4 * unit) + unit / 2);
  });
  return canvas;
}

/** Break a text into lines that fit, between words, or inside a long word. */
function wrap(context, text, width) {
  const lines = [""];
  for (const piece of text.match(/\S+\s*|\s+/g) ?? []) {
    if (context.measureText(lines.at(-1) + piece.trimEnd()).width > width && lines.at(-1)) lines.push("");
    for (const letter of piece) {
      if (context.measureText(lines.at(-1) + letter.trimEnd()).width > width) lines.push("");
      lines[lines.length - 1] += letter;
    }
  }
  return lines;
}
