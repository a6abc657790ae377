// Beam search as captioning/decoder/search.py does it, in the same 32-bit arithmetic, and the confidence of a caption.
// Shapes: N beams, V words, L regions. A state is an object of Float32Arrays with N rows each.

const PAD = 0, START = 1, END = 2, UNKNOWN = 3;
const NEVER = -1e9;  // log-probability of a word that is ruled out
const NO_CAPTION = -1e6;  // scores below this belong to no caption

/** The captions found, best first: {tokens, logProbs, attention, score}. `step(tokens, state)` resolves to
 * {logProbs (N, V), attention (N, L), state}. `state` is that of one beam; `forbidden` are ids. */
export async function search(state, step, options, forbidden = []) {
  const ruledOut = [PAD, START, UNKNOWN, ...forbidden];
  let beams = [{tokens: [], logProbs: [], attention: [], total: 0, length: 0, finished: false}];
  for (let time = 0; time < options.max_length && !beams.every(beam => beam.finished); time++) {
    const last = Int32Array.from(beams, beam => beam.tokens.at(-1) ?? START);
    const out = await step(last, state);
    const own = beams.map((_, row) => rowOf(out.logProbs, row, beams.length));
    const allowed = beams.map((beam, row) => apply(own[row], beam, time, options, ruledOut));
    const chosen = best(beams, allowed, options);
    state = Object.fromEntries(Object.entries(out.state).map(([name, rows]) => [name, gather(rows, chosen, beams.length)]));
    beams = chosen.map(({row, word}) => extend(
      beams[row], word, own[row][word], allowed[row][word], rowOf(out.attention, row, beams.length)));
  }
  const scored = beams.map(beam => ({...beam, score: Math.fround(beam.total * weight(Math.max(beam.length, 1), options))}));
  return scored.sort((one, other) => other.score - one.score).filter(({score}, rank) => !rank || score > NO_CAPTION);
}

const rowOf = (array, row, rows) => array.subarray(row * array.length / rows, (row + 1) * array.length / rows);
const weight = (length, options) => Math.fround(length ** -options.length_penalty);

function apply(logProbs, {tokens, finished}, time, options, ruledOut) {
  const allowed = finished ? new Float32Array(logProbs.length).fill(NEVER) : logProbs.slice();
  if (finished) {
    allowed[PAD] = 0;
    return allowed;
  }
  for (const word of new Set(tokens)) allowed[word] *= options.repetition_penalty;
  for (const word of repeats(tokens, options)) allowed[word] = NEVER;
  if (time < options.min_length) allowed[END] += NEVER;
  for (const word of ruledOut) allowed[word] += 10 * NEVER;
  return allowed;
}

/** The words that would repeat an n-gram; from n = 2 on, no word follows itself either. */
function repeats(tokens, {no_repeat_ngram_size: size, max_length: longest}) {
  if (!size || size > longest || !tokens.length) return [];
  const latest = tokens.slice(tokens.length - size + 1).join();
  const found = tokens.filter((_, end) => end >= size - 1 && tokens.slice(end - size + 1, end).join() === latest);
  return size > 1 ? [...found, tokens.at(-1)] : tokens;
}

/** The rows and words of the best continuations; of equal ones the first. */
function best(beams, allowed, options) {
  const found = [];
  beams.forEach((beam, row) => {
    const share = weight(beam.finished ? beam.length : beam.length + 1, options);
    allowed[row].forEach((logProb, word) => {
      const score = Math.fround(Math.fround(beam.total + logProb) * share);
      if (found.length === options.num_beams && score <= found.at(-1).score) return;
      const place = found.findIndex(other => other.score < score);
      found.splice(place < 0 ? found.length : place, 0, {row, word, score});
      found.length = Math.min(found.length, options.num_beams);
    });
  });
  return found;
}

function gather(rows, chosen, count) {
  const width = rows.length / count, out = new Float32Array(chosen.length * width);
  chosen.forEach(({row}, place) => out.set(rowOf(rows, row, count), place * width));
  return out;
}

function extend(beam, word, logProb, added, attention) {
  return {
    tokens: [...beam.tokens, word],
    logProbs: [...beam.logProbs, beam.finished ? 0 : logProb],
    attention: [...beam.attention, attention],
    total: Math.fround(beam.total + added),
    length: beam.length + !beam.finished,
    finished: beam.finished || word === END,
  };
}

/** A caption found, in words: {text, words: [{text, probability, attention}], score}. */
export function spell(found, vocabulary) {
  const end = found.tokens.indexOf(END);
  const words = found.tokens.slice(0, end < 0 ? undefined : end).map((token, time) => ({
    text: vocabulary[token], probability: Math.exp(found.logProbs[time]), attention: found.attention[time],
  }));
  return {text: words.map(word => word.text).join(' ').replaceAll(" 's", "'s"), words, score: found.score};
}

/** The calibrated probability that a caption is a good one, as captioning/inference/confidence.py has it. */
export function confidence(caption, rivals, {bias, likelihood, agreement}) {
  const logs = caption.words.map(word => Math.log(Math.max(word.probability, 1e-6)));
  const shared = rivals.map(rival => agreementOf(caption.words, rival.words));
  const value = bias + likelihood * mean(logs, Math.log(1e-6)) + agreement * mean(shared, 1);
  return 1 / (1 + Math.exp(-Math.min(30, Math.max(-30, value))));
}

/** Whether a picture is like the validation pictures, as captioning/inference/familiarity.py has it. grid: (L, D). */
export function isFamiliar(grid, {limit, depth, directions}) {
  const bytes = Uint8Array.from(atob(directions), letter => letter.charCodeAt(0));
  const known = new Int16Array(bytes.buffer), total = new Float64Array(depth);
  grid.forEach((value, place) => { total[place % depth] += value; });
  const length = Math.hypot(...total) || 1;
  let nearest = -1;
  for (let first = 0; first < known.length; first += depth) {
    let cosine = 0;
    for (let place = 0; place < depth; place++) cosine += total[place] * known[first + place];
    nearest = Math.max(nearest, cosine / length / 32767);
  }
  return 1 - nearest <= limit;
}

const mean = (values, otherwise) => values.length ? values.reduce((sum, value) => sum + value) / values.length : otherwise;

function agreementOf(words, others) {
  const left = others.map(word => word.text);
  const common = words.filter(({text}) => {
    const place = left.indexOf(text);
    if (place >= 0) left.splice(place, 1);
    return place >= 0;
  });
  return 2 * common.length / Math.max(words.length + others.length, 1);
}
