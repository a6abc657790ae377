// The captioner, in a worker: downloads the network, then answers every picture with its caption.
// Shapes: L regions, side by side in a square, D depth of their features, N beams.

import * as ort from './ort.wasm.bundle.min.mjs';
import {readPixels} from './pixels.js';
import {confidence, isFamiliar, search, spell} from './search.js';

const here = name => new URL(name, import.meta.url);

class DownloadError extends Error {}

async function fetched(name) {
  const response = await fetch(here(name)).catch(() => null);
  if (!response?.ok) throw new DownloadError(name);
  return response;
}

/** The bytes of a gzipped file; some hosts unpack it on the way. `onBytes` counts what arrives. */
async function unpacked(name, onBytes) {
  const parts = [];
  try {
    const reader = (await fetched(name)).body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      onBytes(part.value.length);
    }
    const file = new Blob(parts);
    const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const isPacked = first === 0x1f && second === 0x8b;
    const stream = isPacked ? file.stream().pipeThrough(new DecompressionStream('gzip')) : file.stream();
    return await new Response(stream).arrayBuffer();
  } catch {
    throw new DownloadError(name);
  }
}

async function open() {
  const settings = await (await fetched('captioner.json')).json();
  const total = settings.files.reduce((sum, file) => sum + file.bytes, 0);
  const loaded = settings.files.map(() => 0);
  const files = await Promise.all(settings.files.map(({name, bytes}, place) => unpacked(name, count => {
    loaded[place] = Math.min(bytes, loaded[place] + count);
    postMessage({kind: 'progress', loaded: loaded.reduce((sum, part) => sum + part), total});
  })));
  postMessage({kind: 'opening'});
  const [wasm, ...graphs] = files;
  Object.assign(ort.env.wasm, {wasmBinary: wasm, numThreads: 1});
  const sessions = [];
  for (const graph of graphs) sessions.push(await ort.InferenceSession.create(new Uint8Array(graph)));
  return {settings, sessions};
}

let opened = null;

async function caption(picture, isLive) {
  const {settings, sessions: [encoder, start, step]} = await opened;
  const isMirrored = settings.decoding.mirrored && !isLive;  // doubles the encoder's time
  const began = performance.now();
  const pixels = await readPixels(picture, settings.image_size);
  const grid = await encode(encoder, pixels, settings, isMirrored);
  const encoded = performance.now();
  const everywhere = shape => new ort.Tensor('bool', new Uint8Array(grid.dims[1]).fill(1), shape);
  const {keys, values, hidden, cell} = await start.run({grid, where: everywhere([1, grid.dims[1]])});
  const shared = {keys, values, where: everywhere([1, 1, grid.dims[1]])};
  const advance = async (tokens, state) => {
    const row = part => new ort.Tensor('float32', part, [1, tokens.length, part.length / tokens.length]);
    const words = new ort.Tensor('int32', tokens, [1, tokens.length]);
    const out = await step.run({...shared, tokens: words, hidden: row(state.hidden), cell: row(state.cell)});
    const next = {hidden: out.hidden_out.data, cell: out.cell_out.data};
    return {logProbs: out.log_probs.data, attention: out.attention.data, state: next};
  };
  const state = {hidden: hidden.data, cell: cell.data};
  const found = await search(state, advance, settings.decoding, settings.forbidden);
  const [first, ...others] = found.map(each => spell(each, settings.words));
  const value = settings.calibration && confidence(first, others, settings.calibration);
  return {
    ...first,
    confidence: value,
    isSure: value !== null && value >= settings.sure,
    familiar: settings.familiarity && isFamiliar(grid.data, settings.familiarity),
    milliseconds: {encoder: encoded - began, words: performance.now() - encoded},
  };
}

/** The features (1, L, D) of RGB bytes, or the mean of theirs and of their mirror image's, which are turned back. */
async function encode(encoder, pixels, {image_size: size}, isMirrored) {
  const images = new Float32Array((isMirrored ? 2 : 1) * pixels.length);
  images.set(pixels);
  if (isMirrored) flip(pixels, size, 3, images.subarray(pixels.length));
  const input = new ort.Tensor('float32', images, [images.length / pixels.length, size, size, 3]);
  const {data, dims: [, regions, depth]} = (await encoder.run({images: input})).grid;
  const grid = data.slice(0, regions * depth);
  if (isMirrored) {
    const other = flip(data.subarray(regions * depth), Math.sqrt(regions), depth, new Float32Array(regions * depth));
    other.forEach((value, place) => { grid[place] = (grid[place] + value) / 2; });
  }
  return new ort.Tensor('float32', grid, [1, regions, depth]);
}

/** Copies a square of side x side cells to `to`, left and right exchanged. */
function flip(from, side, depth, to) {
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const place = (row * side + column) * depth;
      to.set(from.subarray(place, place + depth), (row * side + side - 1 - column) * depth);
    }
  }
  return to;
}

const REASONS = [[DownloadError, 'download'], [DOMException, 'unreadable'], [RangeError, 'shape']];

/** Runs a task and posts what it gives, or the reason why it failed. */
async function answer(id, task) {
  try {
    postMessage({kind: 'done', id, result: await task()});
  } catch (error) {
    const [, reason] = REASONS.find(([type]) => error instanceof type) ?? [null, 'other'];
    if (reason === 'other') console.error(error);
    postMessage({kind: 'failed', id, reason, message: String(error)});
  }
}

addEventListener('message', ({data: {id, picture, isLive}}) => {
  if (picture) return answer(id, () => caption(picture, isLive));
  opened = open();
  return answer(id, async () => (await opened).settings);
});
