// A picture as the encoder takes it: squashed to a square as captioning/data/images.py does it, with Pillow's bicubic
// filter. Of a picture more than three times as large the browser makes the coarse reduction.

const SMALLEST = 8, LONGEST = 20;  // pixels of a side; times as long as wide
const BITS = 22;  // of the fixed-point weights

/** RGB bytes (size, size, 3) of a Blob or ImageBitmap. Throws where the browser cannot read it. */
export async function readPixels(picture, size) {
  const bitmap = picture instanceof Blob ? await createImageBitmap(picture, {colorSpaceConversion: 'none'}) : picture;
  const {width, height} = bitmap;
  if (Math.min(width, height) < SMALLEST || Math.max(width, height) > LONGEST * Math.min(width, height)) {
    throw new RangeError('a side is too short');
  }
  const across = width / Math.max(1, Math.floor(width / (3 * size)));
  const down = height / Math.max(1, Math.floor(height / (3 * size)));
  const canvas = new OffscreenCanvas(Math.ceil(across), Math.ceil(down));
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, across, down);
  bitmap.close();
  return resize(context.getImageData(0, 0, canvas.width, canvas.height), across, down, size);
}

/** RGB bytes (size, size, 3) of the upper left `across` x `down` pixels of RGBA bytes, as Pillow's resize gives them. */
export function resize({data, width, height}, across, down, size) {
  const rows = new Uint8ClampedArray(height * size * 3), out = new Uint8ClampedArray(size * size * 3);
  filter(across, width, size).forEach(({first, weights}, x) => {
    for (let y = 0; y < height; y++) weigh(data, 4 * (y * width + first), 4, weights, rows, 3 * (y * size + x));
  });
  filter(down, height, size).forEach(({first, weights}, y) => {
    for (let x = 0; x < size; x++) weigh(rows, 3 * (first * size + x), 3 * size, weights, out, 3 * (y * size + x));
  });
  return out;
}

function weigh(from, place, stride, weights, to, at) {
  for (let colour = 0; colour < 3; colour++) {
    let sum = 1 << (BITS - 1);
    for (let i = 0; i < weights.length; i++) sum += weights[i] * from[place + colour + i * stride];
    to[at + colour] = sum >> BITS;
  }
}

/** For every output pixel the first input pixel and the weights of those from there on. */
function filter(length, available, size) {
  const scale = length / size, spread = Math.max(1, scale);
  return Array.from({length: size}, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * spread + 0.5));
    const end = Math.min(available, Math.trunc(centre + 2 * spread + 0.5));
    const raw = Array.from({length: end - first}, (_, i) => bicubic((i + first - centre + 0.5) / spread));
    const sum = raw.reduce((total, value) => total + value, 0);
    return {first, weights: Int32Array.from(raw, value => Math.round(value / sum * (1 << BITS)))};
  });
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}
