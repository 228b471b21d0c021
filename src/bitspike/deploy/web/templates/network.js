"use strict";
// The network: the compiled program, and the page's interface for scripts, window.bitspike.

const data = JSON.parse(document.getElementById("data").textContent);
const inputSize = data.frames * data.shape.reduce((a, b) => a * b);

function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

async function loadNetwork() {
  const { instance } = await WebAssembly.instantiate(fromBase64(data.wasm), {});
  const wasm = instance.exports;
  const memory = wasm.memory.buffer; // never grows
  const sample = new Uint8Array(memory, wasm.sample(), inputSize);
  const logits = new Int32Array(memory, wasm.logits(), data.classes.length);
  const packed = new Uint8Array(memory, wasm.spikes());

  function put(bytes) {
    if (!(bytes instanceof Uint8Array) || bytes.length !== inputSize) {
      throw new RangeError(`a sample is a Uint8Array of ${inputSize} bytes, not ${bytes?.constructor?.name} of ${bytes?.length}`);
    }
    sample.set(bytes);
  }

  return {
    selfTest: () => wasm.self_test() === 0,
    // Logits and the spikes of every layer of one sample.
    run(bytes) {
      put(bytes);
      wasm.trace();
      let offset = 0;
      const spikes = data.layers.map(({ name, shape }) => {
        const layer = unpack(packed, offset, shape);
        offset += layer.packedBytes;
        return { name, shape: [data.timeSteps, ...shape], values: layer.values };
      });
      return { logits: logits.slice(), spikes };
    },
    // Milliseconds for so many inferences of one sample, without copying spikes out.
    time(bytes, repetitions) {
      put(bytes);
      const start = performance.now();
      wasm.repeat(repetitions);
      return performance.now() - start;
    },
  };
}

// [T][H][W][ceil(C/8)] bytes, channel c in bit c % 8 of byte c / 8 -> one byte per spike, (T, C, H, W).
function unpack(packed, offset, [channels, height, width]) {
  const steps = data.timeSteps, area = height * width, stride = (channels + 7) >> 3;
  const values = new Uint8Array(steps * channels * area);
  for (let t = 0; t < steps; t++) {
    for (let pixel = 0; pixel < area; pixel++) {
      const from = offset + (t * area + pixel) * stride;
      for (let c = 0; c < channels; c++) {
        values[(t * channels + c) * area + pixel] = (packed[from + (c >> 3)] >> (c & 7)) & 1;
      }
    }
  }
  return { values, packedBytes: steps * area * stride };
}

// CRC-32C of all spikes, as the artifact's test vectors have it.
function spikeChecksum(spikes) {
  const table = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let i = 0; i < 8; i++) byte = (byte >>> 1) ^ (byte & 1 ? 0x82f63b78 : 0);
    return byte;
  });
  let crc = 0xffffffff;
  for (const { values } of spikes) for (const value of values) crc = (crc >>> 8) ^ table[(crc ^ value) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

// How many of the page's samples give every logit and spike of the native engine.
function countEqual(network) {
  return data.samples.filter((sample) => {
    const { logits, spikes } = network.run(fromBase64(sample.bytes));
    return logits.every((value, i) => value === sample.logits[i]) && spikeChecksum(spikes) === sample.spikes;
  }).length;
}

// Median milliseconds per inference: batches long enough for the browser's clock, which is coarse on purpose.
async function measureTime(network, bytes, batches, batchMs) {
  let repetitions = 1;
  for (;;) {
    const spent = network.time(bytes, repetitions);
    if (spent >= batchMs || repetitions >= 1 << 24) break;
    repetitions = Math.ceil(repetitions * Math.min(8, Math.max(1.5, (1.2 * batchMs) / Math.max(spent, 0.01))));
  }
  const times = [];
  for (let i = 0; i < batches; i++) {
    times.push(network.time(bytes, repetitions) / repetitions);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays responsive
  }
  times.sort((a, b) => a - b);
  return { median: times[batches >> 1], batches, repetitions };
}
