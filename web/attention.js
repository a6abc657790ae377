// The attention of a word, drawn over the picture. Regions lie side by side in a square.

const DARKEST = 215;  // of 255, where the attention is zero

/** A veil over the picture that is dark where the attention is small. Each region spreads as a quadratic B-spline. */
export function draw(canvas, attention) {
  const {width: size} = canvas, context = canvas.getContext('2d');
  context.clearRect(0, 0, size, size);
  if (!attention) return;
  const side = Math.sqrt(attention.length), splines = Array.from({length: size}, (_, pixel) => spline(pixel, size, side));
  const spread = splines.map(rows => splines.map(columns => rows.reduce((sum, [row, down]) =>
    sum + columns.reduce((part, [column, across]) => part + across * attention[row * side + column], 0) * down, 0)));
  const most = Math.max(...spread.map(row => Math.max(...row)));
  const veil = context.createImageData(size, size);
  spread.flat().forEach((value, pixel) => { veil.data[4 * pixel + 3] = DARKEST * (1 - value / most) ** 1.5; });
  context.putImageData(veil, 0, 0);
}

function spline(pixel, size, side) {
  const centre = (pixel + 0.5) / size * side - 0.5, middle = Math.round(centre);
  return [middle - 1, middle, middle + 1].map(cell => {
    const away = Math.abs(centre - cell);
    const share = away < 0.5 ? 0.75 - away * away : Math.max(0, 1.5 - away) ** 2 / 2;
    return [Math.min(side - 1, Math.max(0, cell)), share];
  });
}
