// A risk-coverage curve: the share of wrong answers (risk) if only the most certain share of questions is answered
// (coverage), with a mark for one answer.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, TOP, BELOW] = [300, 130, 34, 18, 30]; // units of the drawing; margins for the labels of its axes

function draw(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Return the curve as SVG; `curve` holds the risk at equal steps of coverage up to 1, `percent` marks one answer. */
export function riskCurve({ curve, percent, text }) {
  const highest = Math.max(0.05, Math.ceil(20 * Math.max(...curve)) / 20);
  const across = (share) => LEFT + share * (WIDTH - LEFT - 8);
  const down = (risk) => TOP + (1 - risk / highest) * (HEIGHT - BELOW - TOP);
  const points = curve.map((risk, i) => `${across((i + 1) / curve.length)},${down(risk)}`).join(" ");
  const label = (x, y, anchor, words) => draw("text", { x, y, "text-anchor": anchor }, words);
  const here = [across(percent / 100), down(curve[percent - 1])];
  return draw(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img", "aria-label": text },
    draw("line", { class: "axis", x1: LEFT, y1: down(0), x2: across(1), y2: down(0) }),
    draw("line", { class: "axis", x1: LEFT, y1: down(highest), x2: LEFT, y2: down(0) }),
    label(LEFT - 4, down(highest) + 8, "end", `${Math.round(100 * highest)} %`),
    label(LEFT - 4, down(0), "end", "0"),
    label(LEFT, HEIGHT - 16, "start", "0"),
    label(across(1), HEIGHT - 16, "end", "100 %"),
    label(across(0.5), HEIGHT - 4, "middle", "coverage: questions answered, most certain first"),
    label(0, 10, "start", "risk: wrong answers"),
    draw("polyline", { points }),
    draw("line", { class: "here", x1: here[0], y1: down(highest), x2: here[0], y2: down(0) }),
    draw("circle", { cx: here[0], cy: here[1], r: 4 }),
  );
}
