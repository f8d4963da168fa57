// Draws points into a canvas by hand: a hundred thousand of them in some ten milliseconds, without a graphics card.

/** How much of each pixel a shape of radius r covers, 0 to 255; row after row, in a square of odd side. */
function stamp(shape, r) {
  const half = Math.ceil(r);
  const side = 2 * half + 1;
  const cover = new Uint8Array(side * side);
  const inside = [
    (x, y) => x * x + y * y <= r * r,
    (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= r * 0.86,
    (x, y) => Math.abs(x) + Math.abs(y) <= r * 1.18,
    (x, y) => y <= r * 0.75 && y >= -r + Math.abs(x) * 1.75,
    (x, y) => { const d = Math.hypot(x, y); return d <= r && d >= r * 0.5; },
  ][r < 2 ? 0 : shape];
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let hits = 0;
      for (let s = 0; s < 16; s++) hits += inside(x - half + ((s & 3) - 1.5) / 4, y - half + ((s >> 2) - 1.5) / 4);
      cover[y * side + x] = Math.round((hits / 16) * 255);
    }
  }
  return { half, side, cover };
}

/** A canvas's pixels. */
class Raster {
  constructor(canvas) {
    this.context = canvas.getContext("2d", { alpha: false });
    this.canvas = canvas;
    this.stamps = new Map();
  }

  resize(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  clear([r, g, b]) {
    this.pixels.fill((255 << 24) | (b << 16) | (g << 8) | r);
  }

  stamp(shape, radius) {
    const r = Math.round(radius * 4) / 4;
    const key = shape + ":" + r;
    if (!this.stamps.has(key)) this.stamps.set(key, stamp(shape, r));
    return this.stamps.get(key);
  }

  /** Puts a stamp at a pixel; `colour` is 0xBBGGRR, `alpha` 0 to 256. */
  put(mark, px, py, colour, alpha) {
    const { half, side, cover } = mark;
    const { width, height } = this.canvas;
    const left = px - half;
    const top = py - half;
    const x0 = left < 0 ? -left : 0;
    const x1 = left + side > width ? width - left : side;
    const y0 = top < 0 ? -top : 0;
    const y1 = top + side > height ? height - top : side;
    const rb = colour & 0xff00ff;
    const g = colour & 0x00ff00;
    const pixels = this.pixels;
    for (let y = y0; y < y1; y++) {
      let at = (top + y) * width + left + x0;
      for (let x = x0, c = y * side + x0; x < x1; x++, c++, at++) {
        const a = (cover[c] * alpha) >> 8;
        if (a === 0) continue;
        const old = pixels[at];
        const oldRb = old & 0xff00ff;
        const oldG = old & 0x00ff00;
        // Red and blue at once: 8 bits apart, so that products do not touch.
        const newRb = (oldRb + ((((rb - oldRb) * a) | 0) >> 8)) & 0xff00ff;
        const newG = (oldG + ((((g - oldG) | 0) * a) >> 8)) & 0x00ff00;
        pixels[at] = 0xff000000 | newRb | newG;
      }
    }
  }

  show() {
    this.context.putImageData(this.image, 0, 0);
  }
}
