// What the page shows of one run.

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function duration(ms) {
  const [value, unit] = ms >= 1000 ? [ms / 1000, "s"] : ms >= 1 ? [ms, "ms"] : [ms * 1000, "µs"];
  return `${value.toPrecision(3).replace(/e.*/, "")} ${unit}`;
}

// A sample at one frame on a canvas: grey, colour, or the two polarities of events; other channel counts as their mean.
function showSample(canvas, sample, frame) {
  const area = height * width, offset = Math.min(frame, data.frames - 1) * channels * area;
  const scale = drawable ? SCREEN : 255 / Math.max(1, ...sample); // event counts have no common largest value
  const image = new ImageData(width, height);
  for (let i = 0; i < area; i++) {
    const values = Array.from({ length: channels }, (_, c) => Math.min(255, sample[offset + c * area + i] * scale));
    const mean = values.reduce((a, b) => a + b) / channels;
    const grey = [mean, mean, mean];
    const rgb = channels === 3 ? values : channels === 2 ? [values[0], mean, values[1]] : grey;
    image.data.set([...rgb, 255], 4 * i);
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const MOST_SCORES = 12; // more classes: the best ones only

function showAnswer(logits, label) {
  const best = logits.indexOf(Math.max(...logits));
  const verdict = byId("verdict");
  verdict.textContent = data.classes[best];
  verdict.classList.toggle("long", data.classes[best].length > 8);
  const note = byId("verdict-note");
  note.textContent = label === null ? "" : label === best ? `✓ label: ${data.classes[label]}` : `✗ label: ${data.classes[label]}`;
  note.classList.toggle("bad", label !== null && label !== best);
  let order = [...logits.keys()];
  if (order.length > MOST_SCORES) order = order.sort((a, b) => logits[b] - logits[a]).slice(0, MOST_SCORES);
  const high = Math.max(0, ...logits), low = Math.min(0, ...logits), range = high - low || 1;
  const scores = byId("scores");
  scores.classList.toggle("named", data.classes.some((name) => name.length > 2));
  scores.replaceChildren(...order.map((c) => {
    const bar = element("i");
    bar.style.left = `${(100 * (Math.min(0, logits[c]) - low)) / range}%`;
    bar.style.width = `${(100 * Math.abs(logits[c])) / range}%`;
    const number = element("span", {}, logits[c].toLocaleString("en"));
    const row = element("div", { class: "score", role: "listitem" }, element("span", {}, data.classes[c]), element("span", { class: "track" }, bar), number);
    row.classList.toggle("best", c === best);
    return row;
  }));
}

// --- spikes ---

const FEW_STEPS = 8; // up to here all steps stand side by side; beyond, the slider chooses one
const sideBySide = data.timeSteps <= FEW_STEPS;

// Columns of channel maps for a picture about twice as wide as high, with few empty places.
function columnsFor([count, h, w]) {
  let best = 1, least = Infinity;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const badness = Math.abs(Math.log((columns * (w + 1)) / (rows * (h + 1)) / 2)) + (5 * (columns * rows - count)) / count;
    if (badness < least) [best, least] = [columns, badness];
  }
  return best;
}

const layerViews = data.layers.map(({ name, shape }) => {
  const columns = columnsFor(shape), rows = Math.ceil(shape[0] / columns);
  const size = [columns * (shape[2] + 1) - 1, rows * (shape[1] + 1) - 1];
  const maps = Array.from({ length: sideBySide ? data.timeSteps : 1 }, () => {
    const canvas = element("canvas", { role: "img" }), caption = element("figcaption");
    return { canvas, caption, figure: element("figure", {}, canvas, caption) };
  });
  const rate = element("span", { class: "rate" }), fill = element("i"), grid = element("div", { class: "maps" }, ...maps.map((m) => m.figure));
  const strip = sideBySide ? null : element("canvas", { class: "strip", role: "img", "aria-label": `Firing rate of ${name} at every step` });
  const neurons = element("span", { class: "soft" }, `${shape.join(" × ")} neurons`);
  const head = element("div", {}, element("div", { class: "head" }, element("h3", {}, name), neurons, element("div", {}, rate)), element("div", { class: "meter", "aria-hidden": "true" }, fill));
  const body = element("div", {}, grid, ...(strip ? [strip] : []));
  byId("layers").append(element("div", { class: "layer" }, head, body));
  return { name, shape, columns, size, maps, rate, fill, grid, strip };
});

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["map", "gap", "spike"].map((key) => {
    const hex = style.getPropertyValue(`--${key}`).trim().slice(1);
    const full = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
    return [key, [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16))];
  }));
}

function stepRates(values, steps) {
  const neurons = values.length / steps;
  return Array.from({ length: steps }, (_, t) => {
    let sum = 0;
    for (let i = t * neurons; i < (t + 1) * neurons; i++) sum += values[i];
    return sum / neurons;
  });
}

// chosen: a step from 1, or 0 for all of them.
function showSpikes(spikes, chosen) {
  const palette = colours();
  layerViews.forEach((view, index) => {
    const { values } = spikes[index], rates = stepRates(values, data.timeSteps);
    const mean = rates.reduce((a, b) => a + b) / rates.length;
    view.rate.textContent = `${percent(mean)} firing`;
    view.fill.style.width = `${100 * mean}%`;
    view.grid.classList.toggle("stepping", sideBySide && chosen > 0);
    view.maps.forEach(({ canvas, caption, figure }, position) => {
      const t = sideBySide ? position : Math.max(chosen, 1) - 1;
      drawMap(canvas, view, values, t, palette);
      canvas.setAttribute("aria-label", `Spikes of ${view.name} at step ${t + 1}: ${percent(rates[t])} of the neurons fire`);
      caption.textContent = `step ${t + 1}: ${percent(rates[t])}`;
      figure.classList.toggle("now", t + 1 === chosen);
    });
    if (view.strip) drawStrip(view.strip, rates, chosen, palette);
  });
}

function drawMap(canvas, { shape: [count, h, w], columns, size }, values, t, palette) {
  const zoom = Math.max(1, Math.ceil(640 / size[0])); // finer than the screen, so that scaling keeps pixels even
  const image = new ImageData(size[0], size[1]);
  const paint = (x, y, rgb) => image.data.set([rgb[0], rgb[1], rgb[2], 255], 4 * (y * size[0] + x));
  for (let y = 0; y < size[1]; y++) for (let x = 0; x < size[0]; x++) paint(x, y, palette.gap);
  for (let c = 0; c < count; c++) {
    const left = (c % columns) * (w + 1), upper = Math.floor(c / columns) * (h + 1);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        paint(left + x, upper + y, values[((t * count + c) * h + y) * w + x] ? palette.spike : palette.map);
      }
    }
  }
  const small = surface(size[0], size[1]);
  small.putImageData(image, 0, 0);
  canvas.width = size[0] * zoom;
  canvas.height = size[1] * zoom;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small.canvas, 0, 0, canvas.width, canvas.height);
}

function drawStrip(canvas, rates, chosen, palette) {
  canvas.width = 1200;
  canvas.height = 72;
  const context = canvas.getContext("2d"), pitch = canvas.width / rates.length, high = Math.max(...rates, 1e-9);
  rates.forEach((rate, t) => {
    context.fillStyle = css(t + 1 === Math.max(chosen, 1) ? palette.spike : palette.map.map((v, i) => (v + palette.spike[i]) >> 1));
    const tall = Math.max(2, (canvas.height * rate) / high);
    context.fillRect(t * pitch, canvas.height - tall, Math.max(1, pitch - 2), tall);
  });
}
