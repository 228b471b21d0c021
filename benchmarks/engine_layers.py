"""Sections of ``engine.py`` on one layer: each is timed as a graph with it minus the graph without it."""

from __future__ import annotations

from typing import Any

import numpy as np
from engine_groups import CHECKED, Loaded, Settings, difference, loaded, ours, peaks, timed, total
from layer_rivals import attention_calls, layer_calls
from networks import LAYERS, TIME_STEPS, attention, noise_frames, one_layer
from numpy.typing import NDArray

LAYER_BITS = (1, 4, 8)
LAYER_RATE = 0.10
SWEPT = ("16x16x128 3x3", "8x8x256 3x3")
SWEPT_RATES = (0.02, 0.05, 0.10, 0.20, 0.30)
HEADS, HEAD_DIMS, TOKENS_SIDE = 6, 64, 8
ATTENTION_RATE = 0.20


def layers(settings: Settings) -> list[dict[str, Any]]:
    """One layer: with its graph minus the graph without it; the rivals run the bare convolution."""
    found = []
    for name, layer in LAYERS.items():
        samples = noise_frames(layer.size, max(CHECKED, *settings.batches), seed=2)
        graphs = {bits: one_layer(layer, bits, LAYER_RATE) for bits in LAYER_BITS}
        whole = {bits: loaded(pair[0], samples) for bits, pair in graphs.items()}
        base = loaded(graphs[1][1], samples)
        for batch in settings.batches:
            spikes = layer_input(base, samples[:batch])
            calls = {ours(bits): own.call(samples[:batch]) for bits, own in whole.items()}
            calls["without"] = base.call(samples[:batch])
            calls |= layer_calls(layer, spikes, 1, settings.against)
            times, peak = timed(calls, settings, gauges=peaks())
            found.append(
                {
                    "layer": name,
                    "batch": batch,
                    "macs": layer.macs * TIME_STEPS * batch,
                    "rate": float(spikes.mean()),
                    "times": times,
                    "layer_s": {ours(bits): difference(times, ours(bits)) for bits in LAYER_BITS},
                    "peak": peak,
                    "agreement": total(own.agreement for own in (*whole.values(), base)),
                }
            )
    return found


def rates(settings: Settings) -> list[dict[str, Any]]:
    """One layer at several firing rates of its source, batch 1."""
    found = []
    for name in SWEPT[:1] if settings.quick else SWEPT:
        layer = LAYERS[name]
        samples = noise_frames(layer.size, CHECKED, seed=2)
        for rate in SWEPT_RATES:
            pairs = {bits: one_layer(layer, bits, rate) for bits in settings.bits}
            whole = {bits: loaded(pair[0], samples) for bits, pair in pairs.items()}
            base = loaded(pairs[settings.bits[0]][1], samples)
            calls = {ours(bits): own.call(samples[:1]) for bits, own in whole.items()}
            spikes = layer_input(base, samples[:1])
            int8 = {k: c for k, c in layer_calls(layer, spikes, 1, settings.against).items() if "int8" in k}
            times, _ = timed(calls | int8 | {"without": base.call(samples[:1])}, settings, share=0.5)
            found.append(
                {
                    "layer": name,
                    "batch": 1,
                    "macs": layer.macs * TIME_STEPS,
                    "rate": float(spikes.mean()),
                    "times": times,
                    "layer_s": {ours(bits): difference(times, ours(bits)) for bits in settings.bits},
                    "agreement": total(own.agreement for own in (*whole.values(), base)),
                }
            )
    return found


def attentions(settings: Settings) -> list[dict[str, Any]]:
    """Spike attention, 64 tokens, 64 dimensions per head, beside two batched matrix products in torch."""
    channels = HEADS * HEAD_DIMS
    samples = noise_frames(TOKENS_SIDE, max(CHECKED, *settings.batches), seed=2)
    with_it, without = attention(channels, HEADS, TOKENS_SIDE, ATTENTION_RATE)
    whole, base = loaded(with_it, samples), loaded(without, samples)
    found = []
    for batch in settings.batches:
        traced = list(whole.network.trace(samples[:batch]).values())[:3]
        images = [x.reshape(-1, *x.shape[2:]) for x in traced]
        calls = {"bitspike": whole.call(samples[:batch]), "without": base.call(samples[:batch])}
        times, _ = timed(calls | attention_calls(channels, HEADS, images), settings)
        found.append(
            {
                "heads": HEADS,
                "tokens": TOKENS_SIDE**2,
                "dims": HEAD_DIMS,
                "time_steps": TIME_STEPS,
                "batch": batch,
                "rate": float(np.mean([x.mean() for x in images])),
                "times": times,
                "layer_s": {"bitspike": difference(times, "bitspike")},
                "agreement": total([whole.agreement, base.agreement]),
            }
        )
    return found


def layer_input(base: Loaded, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spikes (T·N, C, H, W) that the layer reads."""
    front = next(iter(base.network.trace(samples).values()))
    return np.ascontiguousarray(front.reshape(-1, *front.shape[2:]))
