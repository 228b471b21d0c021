// Wiring: what a person does -> a sample -> a run -> what is shown.

const SLOW_MS = 40; // a network slower than this answers at the end of a stroke, not while it is drawn
const state = { network: null, sample: null, label: null, result: null, chosen: 0, slow: false, strokes: [], bitmap: null };
const control = (id) => byId(id) ?? {}; // controls that this network does not have are absent

const ready = loadNetwork().then((network) => {
  state.network = network;
  return network;
});
window.bitspike = {
  ready: ready.then(() => undefined),
  info: { shape: [...(data.frames > 1 ? [data.frames] : []), ...data.shape], classes: data.classes, timeSteps: data.timeSteps, layers: data.layers },
  run: (bytes) => loaded().run(bytes),
  sample: () => state.sample?.slice() ?? null, // what is shown
  time: (bytes, repetitions) => loaded().time(bytes, repetitions),
};

function loaded() {
  if (!state.network) throw new Error("the network is still loading: await bitspike.ready first");
  return state.network;
}

function show(sample, label = null) {
  if (!state.network) return;
  const start = performance.now();
  state.sample = sample;
  state.label = label;
  state.result = state.network.run(sample);
  state.slow = performance.now() - start > SLOW_MS;
  showAnswer(state.result.logits, label);
  redraw();
}

function redraw() {
  if (!state.result) return;
  showSample(byId("seen"), state.sample, Math.max(state.chosen, 1) - 1);
  showSpikes(state.result.spikes, state.chosen);
}

function message(text, bad = false) {
  byId("input-message").textContent = text;
  byId("input-message").classList.toggle("bad", bad);
}

function forgetOther(kept) {
  for (const button of control("samples").children ?? []) button.setAttribute("aria-pressed", String(button === kept));
}

// --- drawing ---

function paintPad() {
  const pad = byId("pad"), context = pad.getContext("2d"), scale = pad.width / width;
  context.fillStyle = css(screenPaper);
  context.fillRect(0, 0, pad.width, pad.height);
  if (Math.max(width, height) <= 40) {
    context.strokeStyle = screenPaper[0] < 128 ? "rgba(255,255,255,.09)" : "rgba(0,0,0,.09)";
    context.lineWidth = 1;
    context.beginPath();
    for (let x = 1; x < width; x++) context.moveTo(x * scale, 0), context.lineTo(x * scale, pad.height);
    for (let y = 1; y < height; y++) context.moveTo(0, y * scale), context.lineTo(pad.width, y * scale);
    context.stroke();
  }
  paintStrokes(context, state.strokes, ([x, y]) => [x * pad.width, y * pad.height], scale);
  if (state.pen) {
    context.strokeStyle = "#f08a4b";
    context.lineWidth = 4;
    context.beginPath();
    context.arc(state.pen[0] * pad.width, state.pen[1] * pad.height, 12, 0, 7);
    context.stroke();
  }
  byId("pad-hint").hidden = state.strokes.length > 0 || Boolean(state.pen);
}

function drawn() {
  state.bitmap = null;
  forgetOther(null);
  message("");
  paintPad();
  if (state.network) show(sampleOfStrokes(state.strokes, byId("fit").checked));
}

let pending = false;
function drawnSoon() {
  paintPad();
  if (pending || state.slow) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    drawn();
  });
}

function newStroke(point) {
  const colour = byId("colour")?.value ?? css(inkFor);
  state.strokes.push({ points: [point], width: Number(byId("brush").value), colour, filled: byId("filled").checked });
}

function setUpPad() {
  const pad = byId("pad");
  const zoom = Math.ceil(680 / Math.max(width, height));
  [pad.width, pad.height] = [width * zoom, height * zoom];
  byId("brush").max = Math.max(4, Math.round(Math.max(width, height) / 4));
  byId("brush").value = defaultBrush;
  byId("filled").checked = data.drawing.filled;
  byId("pad-hint").style.color = screenPaper[0] < 128 ? "#b9c2cc" : "#565f6b";
  const point = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let active = null; // the pointer that draws
  pad.addEventListener("pointerdown", (event) => {
    if (active !== null || event.button !== 0) return;
    active = event.pointerId;
    pad.setPointerCapture(active);
    state.pen = null;
    newStroke(point(event));
    drawnSoon();
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== active) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    state.strokes.at(-1).points.push(...(moves.length ? moves : [event]).map(point));
    drawnSoon();
  });
  const end = (event) => {
    if (event.pointerId !== active) return;
    active = null;
    drawn();
  };
  pad.addEventListener("pointerup", end);
  pad.addEventListener("pointercancel", end);
  setUpKeyboard(pad);
  byId("undo").addEventListener("click", undo);
  byId("clear").addEventListener("click", () => {
    state.strokes = [];
    drawn();
  });
  byId("fit").addEventListener("change", () => state.strokes.length && drawn());
  for (const [id, key, value] of [["brush", "width", (e) => Number(e.value)], ["filled", "filled", (e) => e.checked]]) {
    byId(id).addEventListener("input", (event) => {
      if (!state.strokes.length) return;
      state.strokes.at(-1)[key] = value(event.target); // the last stroke shows what the choice does
      drawn();
    });
  }
  paintPad();
}

function undo() {
  state.strokes.pop();
  drawn();
}

function setUpKeyboard(pad) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  let down = false;
  pad.addEventListener("keydown", (event) => {
    if (!(event.key in moves) && event.key !== " " && event.key !== "Backspace") return;
    event.preventDefault();
    if (event.key === "Backspace") {
      down = false;
      return undo();
    }
    state.pen ??= [0.5, 0.5];
    if (event.key === " ") {
      down = !down;
      if (down) newStroke([...state.pen]);
    } else {
      const [dx, dy] = moves[event.key];
      state.pen = [state.pen[0] + dx / (2 * width), state.pen[1] + dy / (2 * height)].map((v) => Math.min(1, Math.max(0, v)));
      if (down && state.strokes.length) state.strokes.at(-1).points.push([...state.pen]);
    }
    if (down) drawn();
    else paintPad();
  });
  pad.addEventListener("blur", () => {
    down = false;
    state.pen = null;
    paintPad();
  });
}

// --- pictures, arrays, samples ---

async function loadFile(file) {
  try {
    if (file.name.endsWith(".npy")) {
      const { sample, count } = await sampleOfArray(file);
      state.bitmap = null;
      message(count > 1 ? `${file.name}: the first of ${count} samples.` : file.name);
      show(sample);
    } else {
      state.bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
        throw new Error(`${file.name}: this browser cannot read it as a picture`);
      });
      byId("invert").checked = needsInversion(state.bitmap);
      message(`${file.name}, ${state.bitmap.width} × ${state.bitmap.height} pixels.`);
      show(sampleOfPicture(state.bitmap, byId("invert").checked));
    }
    forgetOther(null);
  } catch (error) {
    message(error.message, true);
  }
}

function setUpFiles() {
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file may be chosen again
    if (file) loadFile(file);
  });
  control("invert").addEventListener?.("change", (event) => {
    if (state.bitmap) show(sampleOfPicture(state.bitmap, event.target.checked));
  });
}

function setUpSamples() {
  const buttons = data.samples.map((entry, i) => {
    const sample = fromBase64(entry.bytes), canvas = element("canvas");
    const label = entry.label === null ? "" : `, label ${data.classes[entry.label]}`;
    const button = element("button", { type: "button", "aria-label": `Sample ${i + 1}${label}`, "aria-pressed": "false" }, canvas);
    showSample(canvas, sample, 0);
    button.addEventListener("click", () => {
      state.bitmap = null;
      forgetOther(button);
      message("");
      show(sample, entry.label);
    });
    return button;
  });
  byId("samples")?.append(...buttons);
  return buttons;
}

// --- steps and time ---

function setUpSteps() {
  const slider = byId("step"), button = byId("play");
  if (!slider) return;
  let timer = null;
  const choose = (step) => {
    state.chosen = step;
    slider.value = step;
    byId("step-text").textContent = step ? `Step ${step}` : "All steps";
    redraw();
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
    button.setAttribute("aria-pressed", "false");
  };
  if (!sideBySide) {
    slider.min = 1;
    choose(1);
  }
  slider.addEventListener("input", () => {
    stop();
    choose(Number(slider.value));
  });
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    choose(1);
    timer = setInterval(() => choose((state.chosen % data.timeSteps) + 1), Math.max(120, Math.min(700, 4000 / data.timeSteps)));
  });
}

async function measure(batches, batchMs) {
  byId("measure").disabled = true;
  try {
    const { median, repetitions } = await measureTime(state.network, state.sample, batches, batchMs);
    byId("fact-time").textContent = duration(median);
    const many = batches > 1 ? `median of ${batches} batches of ${repetitions.toLocaleString("en")} inferences` : `one batch of ${repetitions}`;
    byId("time").replaceChildren(element("strong", {}, duration(median)), ` — ${many} of the sample above, one thread of this browser.`);
  } finally {
    byId("measure").disabled = false;
  }
}

function report(network) {
  const equal = countEqual(network), total = data.samples.length, passed = network.selfTest() && equal === total;
  const check = byId("check");
  check.classList.add(passed ? "good" : "bad");
  const compared = total ? ` ${equal} of ${total} samples give every spike and score of the native engine.` : "";
  check.textContent = passed ? `✓ Checked in this browser: self-test passed.${compared}` : `✗ This browser computes something else: self-test or samples differ.${compared}`;
}

if (byId("pad")) setUpPad();
setUpFiles();
setUpSteps();
const sampleButtons = setUpSamples();
byId("measure").addEventListener("click", () => measure(21, 25));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
ready.then(
  async (network) => {
    report(network);
    if (sampleButtons.length) sampleButtons[0].click();
    else show(new Uint8Array(inputSize));
    await measure(7, 8);
    document.documentElement.dataset.ready = "yes";
  },
  (error) => {
    byId("check").classList.add("bad");
    byId("check").textContent = `This browser cannot run the network (${error.message}). It needs WebAssembly with SIMD: Chrome 97, Firefox 102, Safari 16.4 or newer.`;
  },
);
