// From a drawing, a picture or an array file to a sample.

const [channels, height, width] = data.shape;
const { paper, step, top: largest, fit, brush: defaultBrush } = data.drawing;
const drawable = channels === 1 || channels === 3;
const OVERSAMPLE = Math.max(4, Math.floor(448 / Math.max(height, width))); // drawn finely, then averaged down
const SCREEN = 255 / largest; // a sample's value -> a screen value

const screenPaper = paper.map((value) => Math.min(255, Math.round(value * SCREEN)));
const css = (values) => `rgb(${(values.length === 3 ? values : [values[0], values[0], values[0]]).join(",")})`;
const inkFor = screenPaper[0] < 128 ? [255] : [0];

function surface(w, h) {
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  return canvas.getContext("2d", { willReadFrequently: true });
}

// Strokes are kept as points in [0, 1]², so that they can be fitted to the frame without changing the pen's width.
// place: a point -> position in pixels of the context; scale: context pixels per pixel of a sample.
function paintStrokes(context, strokes, place, scale) {
  context.lineCap = context.lineJoin = "round";
  for (const { points, width: pen, colour, filled } of strokes) {
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = pen * scale;
    context.beginPath();
    points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...place(point)));
    if (points.length === 1) context.lineTo(...place([points[0][0] + 1e-4, points[0][1]]));
    if (filled && points.length > 2) context.fill();
    context.stroke();
  }
}

// Moves and scales the drawing to cover as much of the frame as the objects of the training data do.
function fitted(strokes) {
  const points = strokes.flatMap((s) => s.points.map(([x, y]) => [x * width, y * height]));
  const pen = Math.max(...strokes.map((s) => s.width));
  const low = [0, 1].map((i) => Math.min(...points.map((p) => p[i])));
  const high = [0, 1].map((i) => Math.max(...points.map((p) => p[i])));
  const room = [fit * width - pen, fit * height - pen];
  const factors = [0, 1].filter((i) => high[i] - low[i] > 0.3).map((i) => Math.max(room[i], 1) / (high[i] - low[i]));
  const factor = factors.length ? Math.min(4, ...factors) : 1;
  const centre = [0, 1].map((i) => (low[i] + high[i]) / 2);
  return ([x, y]) => [(x * width - centre[0]) * factor + width / 2, (y * height - centre[1]) * factor + height / 2];
}

function sampleOfStrokes(strokes, fitToFrame) {
  const context = surface(width * OVERSAMPLE, height * OVERSAMPLE);
  context.fillStyle = css(screenPaper);
  context.fillRect(0, 0, width * OVERSAMPLE, height * OVERSAMPLE);
  const place = fitToFrame && strokes.length ? fitted(strokes) : ([x, y]) => [x * width, y * height];
  paintStrokes(context, strokes, (p) => place(p).map((v) => v * OVERSAMPLE), OVERSAMPLE);
  return repeatFrames(averaged(context));
}

// A picture of exactly the network's size is taken byte for byte; any other is cropped to the middle and averaged.
function sampleOfPicture(bitmap, invert) {
  const exact = bitmap.width === width && bitmap.height === height;
  const scale = exact ? 1 : OVERSAMPLE;
  const context = surface(width * scale, height * scale);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width * scale, height * scale);
  const zoom = Math.max((width * scale) / bitmap.width, (height * scale) / bitmap.height);
  const [w, h] = [bitmap.width * zoom, bitmap.height * zoom];
  context.imageSmoothingEnabled = !exact;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (width * scale - w) / 2, (height * scale - h) / 2, w, h);
  const values = exact ? pixels(context) : averaged(context);
  return repeatFrames(invert ? values.map((value) => Math.max(0, largest - value)) : values);
}

// Means of the blocks of a finely drawn surface, on the data's own scale of grey levels: u8 (C, H, W).
function averaged(context) {
  const fine = context.canvas.width, rgba = context.getImageData(0, 0, fine, context.canvas.height).data;
  const values = new Uint8Array(channels * height * width);
  const sums = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      sums.fill(0);
      for (let v = y * OVERSAMPLE; v < (y + 1) * OVERSAMPLE; v++) {
        for (let i = (v * fine + x * OVERSAMPLE) * 4, end = i + OVERSAMPLE * 4; i < end; i += 4) {
          sums[0] += rgba[i];
          sums[1] += rgba[i + 1];
          sums[2] += rgba[i + 2];
        }
      }
      const means = sums.map((sum) => sum / (OVERSAMPLE * OVERSAMPLE));
      put(values, y * width + x, means, (mean) => Math.round(mean / SCREEN / step) * step);
    }
  }
  return values;
}

function pixels(context) {
  const rgba = context.getImageData(0, 0, width, height).data;
  const values = new Uint8Array(channels * height * width);
  for (let i = 0; i < height * width; i++) put(values, i, rgba.subarray(4 * i, 4 * i + 3), Math.round);
  return values;
}

function put(values, pixel, [red, green, blue], level) {
  if (channels === 3) [red, green, blue].forEach((v, c) => (values[c * height * width + pixel] = level(v)));
  else values[pixel] = level(0.299 * red + 0.587 * green + 0.114 * blue);
}

function repeatFrames(frame) {
  const sample = new Uint8Array(inputSize);
  for (let t = 0; t < data.frames; t++) sample.set(frame, t * frame.length);
  return sample;
}

// A picture whose edge is bright where the data's is dark, or the other way round, is meant inverted.
function needsInversion(bitmap) {
  if (channels !== 1) return false;
  const values = sampleOfPicture(bitmap, false);
  let sum = 0, count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (y === 0 || x === 0 || y === height - 1 || x === width - 1) {
        sum += values[y * width + x];
        count++;
      }
    }
  }
  return Math.abs(sum / count - paper[0]) > largest / 2;
}

// First sample of a .npy file of bytes; throws an Error that says what is accepted.
async function sampleOfArray(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const refuse = (reason) => new Error(`${file.name}: ${reason}; accepted: .npy, uint8, samples of ${inputSize} bytes`);
  if (String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY") throw refuse("not a .npy file");
  const view = new DataView(bytes.buffer), long = bytes[6] > 1;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, start));
  if (!/'descr': *'\|u1'/.test(header) || !/'fortran_order': *False/.test(header)) throw refuse("not uint8 in C order");
  const count = (bytes.length - start) / inputSize;
  if (!(count >= 1) || !Number.isInteger(count)) throw refuse(`holds ${bytes.length - start} bytes`);
  return { sample: bytes.slice(start, start + inputSize), count };
}
