// The canvas of the painting page: an image, what was painted on it, and the brush. It holds strokes in pixels of the
// image, as files of strokes have them; what is shown is a preview of the mask that Python draws.

const LONGEST = 1200; // pixels of the canvas's longer side, at most
const SHORTEST = 640; // to which smaller images are enlarged

export class Easel {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => {tool: string, erase: boolean, radius: number, blur: boolean}} settings
   * @param {(stroke: object) => void} painted is called with what was painted.
   * @param {(text: string) => void} tell says where the brush is, for those who paint by keyboard.
   */
  constructor(canvas, settings, painted, tell) {
    Object.assign(this, { canvas, settings, painted, tell, item: null, bitmap: null, live: null, brush: null });
    this.mask = document.createElement("canvas");
    this.layer = document.createElement("canvas");
    this.listen();
  }

  /** Show an image with its strokes. */
  show(item, bitmap) {
    Object.assign(this, { item, bitmap, live: null });
    const longest = Math.max(item.width, item.height);
    this.scale = Math.min(LONGEST / longest, Math.max(1, SHORTEST / longest));
    for (const one of [this.canvas, this.mask, this.layer]) {
      one.width = Math.max(1, Math.round(item.width * this.scale));
      one.height = Math.max(1, Math.round(item.height * this.scale));
    }
    this.brush = [item.width / 2, item.height / 2];
    this.draw();
  }

  draw() {
    if (!this.item) return;
    const { canvas, mask, bitmap, layer } = this;
    const strokes = this.live ? [...this.item.strokes, this.live] : this.item.strokes;
    this.drawMask(strokes);
    const context = canvas.getContext("2d");
    context.filter = this.settings().blur ? `blur(${Math.max(6, canvas.width / 40)}px)` : "none";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
    const painted = layer.getContext("2d");
    painted.globalCompositeOperation = "copy";
    painted.drawImage(mask, 0, 0);
    painted.globalCompositeOperation = "source-in";
    if (this.settings().blur) {
      painted.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    } else {
      painted.fillStyle = "rgba(255, 0, 160, 0.5)";
      painted.fillRect(0, 0, canvas.width, canvas.height);
    }
    context.drawImage(layer, 0, 0);
    this.drawBrush(context);
  }

  drawMask(strokes) {
    const { mask, scale } = this;
    const context = mask.getContext("2d");
    context.clearRect(0, 0, mask.width, mask.height);
    if (strokes.length && !strokes.some(({ matters }) => matters)) context.fillRect(0, 0, mask.width, mask.height);
    context.lineCap = context.lineJoin = "round";
    for (const { points, radius, box, matters } of strokes) {
      context.globalCompositeOperation = matters ? "source-over" : "destination-out";
      if (box) {
        const [left, top, right, bottom] = box.map((side) => side * scale);
        context.fillRect(left, top, right - left, bottom - top);
        continue;
      }
      context.lineWidth = 2 * radius * scale;
      context.beginPath();
      context.moveTo(points[0][0] * scale, points[0][1] * scale);
      for (const [x, y] of points.length > 1 ? points.slice(1) : points) context.lineTo(x * scale, y * scale);
      context.stroke();
    }
    context.globalCompositeOperation = "source-over";
  }

  /** Draw the brush, white on black, so that it is seen on every image. */
  drawBrush(context) {
    if (!this.brush) return;
    const { tool, radius } = this.settings();
    const [x, y] = this.brush.map((value) => value * this.scale);
    for (const [colour, width] of [["#000000", 3], ["#ffffff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      if (tool === "box") {
        context.moveTo(x - 8, y);
        context.lineTo(x + 8, y);
        context.moveTo(x, y - 8);
        context.lineTo(x, y + 8);
      } else {
        context.arc(x, y, Math.max(2, radius * this.scale), 0, 2 * Math.PI);
      }
      context.stroke();
    }
  }

  // --- painting -----------------------------------------------------------------------------------------------------

  /** Put the brush down. */
  begin([x, y]) {
    const { tool, erase, radius } = this.settings();
    this.corner = [x, y];
    this.live = tool === "box" ? { box: [x, y, x, y], matters: !erase } : { points: [[x, y]], radius, matters: !erase };
    this.move([x, y]);
  }

  move(at) {
    this.brush = at;
    if (this.live?.box) {
      const [first, second] = [this.corner, at];
      this.live.box = [0, 1].map((axis) => Math.min(first[axis], second[axis])).concat([0, 1].map((axis) => Math.max(first[axis], second[axis])));
    } else if (this.live) {
      const last = this.live.points.at(-1);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) >= Math.max(0.5, this.live.radius / 8)) this.live.points.push(at);
    }
    this.draw();
  }

  /** Lift the brush; what was painted counts. A box without an area does not. */
  end() {
    const stroke = this.live;
    this.live = null;
    if (stroke && (!stroke.box || (stroke.box[0] < stroke.box[2] && stroke.box[1] < stroke.box[3]))) this.painted(stroke);
    this.draw();
  }

  drop() {
    this.live = null;
    this.draw();
  }

  listen() {
    const { canvas } = this;
    const place = (event) => {
      const shown = canvas.getBoundingClientRect();
      const share = [(event.clientX - shown.left) / shown.width, (event.clientY - shown.top) / shown.height];
      return [round(share[0] * this.item.width), round(share[1] * this.item.height)];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.item || event.button !== 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      this.begin(place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.item || !event.isPrimary) return;
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.move(place(one));
      this.move(place(event));
    });
    canvas.addEventListener("pointerup", () => this.live && this.end());
    canvas.addEventListener("pointercancel", () => this.drop());
    canvas.addEventListener("keydown", (event) => this.item && this.key(event));
    canvas.addEventListener("blur", () => this.live && this.end());
  }

  key(event) {
    const step = Math.max(1, Math.min(this.item.width, this.item.height) / 50) * (event.shiftKey ? 5 : 1);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      this.move([
        round(Math.min(this.item.width, Math.max(0, this.brush[0] + x * step))),
        round(Math.min(this.item.height, Math.max(0, this.brush[1] + y * step))),
      ]);
    } else if (event.key === " ") {
      if (this.live) this.end();
      else this.begin(this.brush);
    } else if (event.key === "Escape") {
      this.drop();
    } else {
      return;
    }
    this.tell(`Brush ${this.live ? "down" : "up"}, ${Math.round(this.brush[0])} from the left, ${Math.round(this.brush[1])} from the top`);
    event.preventDefault();
  }
}

const round = (value) => Math.round(value * 10) / 10;
