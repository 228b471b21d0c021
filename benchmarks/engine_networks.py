"""Sections of ``engine.py`` on the whole network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engine_groups import CHECKED, Settings, loaded, macs, ours, timed, total
from networks import SHAPES, TIME_STEPS, network, smooth_images
from numpy.typing import NDArray
from one_pass import one_pass_sessions

from bitspike import engine, measure
from bitspike.deploy import artifact
from bitspike.measure.cases import Case, engine_case, engine_cases, rival_cases
from bitspike.measure.latency import class_agreement, torch_threads

NETWORK = "vgg8"
STEPS = (4, 2, 1)
KEPT = (0.75, 0.5, 0.25)
THREADS = 2


def networks(settings: Settings) -> list[dict[str, Any]]:
    """The whole network at T = 4, 2 and 1 beside every rival at the same T and the one-pass int8 network."""
    return [network_group(settings, steps, batch) for steps in STEPS for batch in settings.batches]


def network_group(settings: Settings, steps: int, batch: int, threads: int = 1) -> dict[str, Any]:
    """One T, one batch size. The rivals hold the network of the first bits: their speed does not depend on its weights."""
    samples = smooth_images(SHAPES[NETWORK], max(CHECKED, batch), seed=2)
    nets = {bits: loaded(network(NETWORK, bits, time_steps=steps), samples) for bits in settings.bits}
    own = [engine_case(net.network, ours(bits), len(net.data), threads) for bits, net in nets.items()]
    first = next(iter(nets.values()))
    against = settings.against - ({"compile"} if threads > 1 else set())  # it bakes the number of threads in
    calls = {case.key: case.prepare(samples[:batch]) for case in own}
    times: dict[str, Any] = {}
    if threads > 1:
        # By itself: threads of other runtimes spin on for a while after their turn, on the very cores it would use.
        calls |= {f"{ours(bits)}, 1 thread": net.call(samples[:batch]) for bits, net in nets.items()}
        times, _ = timed(calls, settings, threads=threads, share=1)
        calls = {}
    with tempfile.TemporaryDirectory() as name, torch_threads(threads):
        folder = Path(name)
        others = rival_cases(first.graph, samples, folder, batch=batch, threads=threads, against=sorted(against))
        calls |= {case.key: case.prepare(samples[:batch]) for case in others}
        if {"ort", "openvino"} & against:
            pixels = samples[:batch].astype(np.float32)
            passes = one_pass_sessions(first.graph, samples, folder, batch=batch, threads=threads, against=against)
            calls |= {key: bound(call, pixels) for key, call in passes.items()}
        times |= timed(calls, settings, threads=threads, share=threads)[0]
        same, _ = class_agreement([*others, own[0]], samples, batch)
    expected = [net.network.run(samples[:batch]) for net in nets.values()]
    found = [case.logits(samples[:batch]) for case in own]
    logits = {
        "compared": sum(x.size for x in expected),
        "differing": sum(int((a != b).sum()) for a, b in zip(expected, found, strict=True)),
    }
    return {
        "network": NETWORK,
        "time_steps": steps,
        "batch": batch,
        "threads": threads,
        "macs": {"spiking": macs(first.graph) * batch, "one pass": macs(first.graph, 1) * batch},
        "rates": {ours(bits): net.network.rates(samples) for bits, net in nets.items()},
        "times": times,
        "file_bytes": file_bytes([*own, *others]),
        "same_answer": same,
        "agreement": total([*(net.agreement for net in nets.values()), logits]),
    }


def levels(settings: Settings) -> list[dict[str, Any]]:
    """The network at every kernel level of this machine, batch 1."""
    samples = smooth_images(SHAPES[NETWORK], CHECKED, seed=2)
    found = []
    for bits in settings.bits:
        net = loaded(network(NETWORK, bits), samples)
        calls = {case.name: case.prepare(samples[:1]) for case in engine_cases(net.data)}
        times, _ = timed(calls, settings, share=0.5)
        found.append({"bits": bits, "batch": 1, "times": times, "agreement": net.agreement})
    return found


def sparsity(settings: Settings) -> list[dict[str, Any]]:
    """The network with a share of each layer's channels, as structured pruning leaves it, beside the dense one."""
    found = []
    samples = smooth_images(SHAPES[NETWORK], max(CHECKED, *settings.batches), seed=2)
    for bits in settings.bits:
        nets = {keep: loaded(network(NETWORK, bits, keep=keep), samples) for keep in (1.0, *KEPT)}
        for batch in settings.batches:
            times, _ = timed({str(keep): net.call(samples[:batch]) for keep, net in nets.items()}, settings, share=0.5)
            found.append(
                {
                    "bits": bits,
                    "batch": batch,
                    "times": times,
                    "macs": {str(keep): macs(net.graph) * batch for keep, net in nets.items()},
                    "file_bytes": {str(keep): len(net.data) for keep, net in nets.items()},
                    "agreement": total([net.agreement for net in nets.values()]),
                }
            )
    return found


def threads(settings: Settings) -> list[dict[str, Any]]:
    """The whole network on two threads, wall time; the engine on one thread beside it."""
    return [network_group(settings, TIME_STEPS, batch, THREADS) for batch in settings.batches]


def memory(settings: Settings) -> list[dict[str, Any]]:
    """Peak memory of a fresh process per runtime, one sample."""
    samples = smooth_images(SHAPES[NETWORK], CHECKED, seed=2)
    found = []
    for bits in settings.bits:
        data = artifact.encode(network(NETWORK, bits))
        against = sorted(settings.against) if bits == settings.bits[0] else []
        rows = measure.peak_memory(data, samples, against=against)
        found += [{"bits": bits, "engine_bytes": engine.load(data).memory_bytes} | row.as_dict() for row in rows]
    return found


def file_bytes(cases: list[Case]) -> dict[str, int]:
    return {case.key: case.file_bytes for case in cases if case.file_bytes is not None}


def bound(call: Callable[[Any], Any], x: NDArray[Any]) -> Callable[[], Any]:
    return lambda: call(x)
