"""What a page computes in the browser, beside what the engine computes."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray
from web_chromium import Page

from bitspike import engine

Samples = NDArray[np.uint8]
CHUNK_BYTES = 1 << 21  # of spikes, in one answer of the browser

RUN = """(() => {
  const raw = Uint8Array.from(atob("SAMPLES"), (c) => c.charCodeAt(0)), size = raw.length / COUNT;
  const logits = [];
  let spikes = "";
  for (let n = 0; n < COUNT; n++) {
    const result = bitspike.run(raw.slice(n * size, (n + 1) * size));
    logits.push([...result.logits]);
    for (const { values } of result.spikes)
      for (let i = 0; i < values.length; i += 4096) spikes += String.fromCharCode(...values.subarray(i, i + 4096));
  }
  return { logits, spikes: btoa(spikes) };
})()"""


def page_outputs(page: Page, samples: Samples) -> tuple[NDArray[np.int32], Samples]:
    """Logits (N, classes), and the spikes of all layers as rows (N, spikes) in (layer, T, C, H, W) order."""
    code = RUN.replace("SAMPLES", base64.b64encode(samples.tobytes()).decode()).replace("COUNT", str(len(samples)))
    answer = page.evaluate(code)
    spikes = np.frombuffer(base64.b64decode(answer["spikes"]), np.uint8).reshape(len(samples), -1)
    return np.asarray(answer["logits"], np.int32), spikes


def compare(page: Page, network: engine.Network, samples: Samples) -> dict[str, int | float]:
    """Spikes and logits of ``samples`` that were compared with the engine's and that differ; mean firing rate."""
    one = sum(s.size for s in network.trace(samples[0]).values())
    step = max(1, CHUNK_BYTES // max(one, 1))
    counts = {"samples": len(samples), "spikes": 0, "differing_spikes": 0, "logits": 0, "differing_logits": 0}
    fired = 0
    for first in range(0, len(samples), step):
        part = samples[first : first + step]
        logits, spikes = page_outputs(page, part)
        traces = network.trace(part).values()
        expected = np.concatenate([np.moveaxis(s, 1, 0).reshape(len(part), -1) for s in traces], 1)
        assert spikes.shape == expected.shape and logits.shape == (len(part), network.num_classes)
        counts["spikes"] += spikes.size
        counts["differing_spikes"] += int(np.count_nonzero(spikes != expected))
        counts["logits"] += logits.size
        counts["differing_logits"] += int(np.count_nonzero(logits != network.run(part)))
        fired += int(spikes.sum())
    return counts | {"firing_rate": fired / max(counts["spikes"], 1)}
