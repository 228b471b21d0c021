"""What users of the emitted files see: the header, the functions it declares, and the self-test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .. import ir, reference
from ..artifact import crc32c
from .code import Code
from .plan import Plan, sample_shape
from .tables import Table

__all__ = ["header_text", "interface", "self_test_tables", "title"]


def title(plan: Plan, name: str) -> str:
    """What the files hold, in one line."""
    shape = "x".join(map(str, plan.shapes[0]))
    classes, steps = plan.shapes[-1][0], plan.graph.time_steps
    return f"{name}: spiking network {shape} -> {classes}, T = {steps}, written by bitspike; do not edit."


def _test_sample(graph: ir.Graph, samples: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    shape = sample_shape(graph)
    if samples is None or not len(samples):
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if samples.dtype != np.uint8 or samples.shape[1:] != shape:
        raise ConfigError(
            f"test_samples are {samples.dtype} {samples.shape}, accepted: uint8 (N, {', '.join(map(str, shape))})"
        )
    return np.asarray(samples[0])


def self_test_tables(graph: ir.Graph, streaming: bool, samples: NDArray[np.uint8] | None) -> list[Table]:
    """Sample, logits (none where stepped: the checksum covers them) and checksum of the self-test."""
    sample = _test_sample(graph, samples)
    result = reference.run(graph, sample[None])
    spikes = {index: _bits(s[:, 0]) for index, s in sorted(result.spikes.items())}
    if streaming:
        parts = []
        for t in range(graph.time_steps):
            parts += [s[t].tobytes() for s in spikes.values()] + [result.steps[t, 0].astype("<i4").tobytes()]
        crc, logits = crc32c(b"".join(parts)), np.zeros(0, np.int64)
    else:
        crc, logits = crc32c(b"".join(s.tobytes() for s in spikes.values())), result.logits[0].astype(np.int64)
    return [
        Table("test_sample", "uint8_t", sample.reshape(-1).astype(np.int64)),
        Table("test_logits", "int32_t", logits),
        Table("test_crc", "uint32_t", np.array([crc], np.int64)),
    ]


def _bits(spikes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spikes (T, C, H, W) as the emitted code stores them: (T, H, W, bytes of channel bits)."""
    return np.packbits(np.moveaxis(spikes, 1, -1), axis=-1, bitorder="little")


def interface(plan: Plan, name: str, test: list[Table]) -> str:
    """The functions that users call, and the self-test's tables."""
    code = Code()
    graph, classes = plan.graph, plan.shapes[-1][0]
    frame = int(np.prod(plan.shapes[0]))
    sample, logits, crc = test
    code("/* Spikes of a layer stand in memory: show and check them. */")
    with code.function("static void layer_done(uint32_t layer, const uint8_t *spikes, uint32_t n, uint32_t *crc)"):
        code.lines += [
            f"#ifdef {name}_TRACE",
            f"    {name}_spikes(layer, spikes);",
            "#else",
            "    (void)layer;",
            "#endif",
        ]
        code("if (crc) *crc = crc32c(*crc, spikes, n);")
    what = "One step" if plan.streaming else "All steps"
    code(f"/* {what}; the logits stand in logits_of[]. */")
    with code.function("static void run(const uint8_t *sample, uint32_t *crc)"):
        layer = 0
        for index, node in enumerate(graph.nodes):
            if index == 0 or plan.kind(index) == "current":
                continue
            code(f"node_{index}({'sample' if plan.reads_input(index) else ''});")
            if isinstance(node, ir.Firing):
                code(f"layer_done({layer}u, edge_{index}, {plan.edges[index].bytes}u, crc);")
                layer += 1
    if plan.streaming:
        _streaming(plan, name, code, frame, classes)
    else:
        with code.function(f"void {name}_run(const uint8_t *sample, int32_t *logits)"):
            code("uint32_t c;")
            code("run(sample, 0);")
            code(f"for (c = 0; c < {classes}u; c++) logits[c] = logits_of[c];")
    lines = [sample.text()]
    if logits.values.size:
        lines.append(logits.text())
    value = f"0x{int(crc.values[0]):08x}u"
    with code.function(f"int {name}_self_test(void)"):
        if plan.streaming:
            advance = graph.input.frames > 1
            code("uint32_t crc = 0, t, c, i;")
            code(f"{name}_reset();")
            with code.block(f"for (t = 0; t < {graph.time_steps}u; t++)"):
                code(f"run(test_sample{f' + t * {frame}u' if advance else ''}, &crc);")
                with code.block(f"for (c = 0; c < {classes}u; c++)"):
                    code("uint8_t bytes[4];")
                    code("for (i = 0; i < 4u; i++) bytes[i] = (uint8_t)((uint32_t)logits_of[c] >> 8 * i & 0xffu);")
                    code("crc = crc32c(crc, bytes, 4u);")
            code(f"{name}_reset();")
            code(f"return crc != {value};")
        else:
            code("uint32_t crc = 0, c;")
            code("run(test_sample, &crc);")
            with code.block(f"for (c = 0; c < {classes}u; c++)"):
                code("if (logits_of[c] != test_logits[c]) return 1;")
            code(f"return crc != {value};")
    return "\n".join(lines) + "\n" + code.text()


def _streaming(plan: Plan, name: str, code: Code, frame: int, classes: int) -> None:
    graph = plan.graph
    with code.function(f"void {name}_reset(void)"):
        code("uint32_t i;")
        for index, node in enumerate(graph.nodes):
            if isinstance(node, ir.Lif):
                code(f"for (i = 0; i < {int(np.prod(plan.shapes[index]))}u; i++) membranes_{index}[i] = 0;")
    with code.function(f"void {name}_step(const uint8_t *frame, int32_t *logits_step)"):
        code("uint32_t c;")
        code("run(frame, 0);")
        code(f"for (c = 0; c < {classes}u; c++) logits_step[c] = logits_of[c];")
    with code.function(f"void {name}_run(const uint8_t *sample, int32_t *logits)"):
        code("uint32_t t, c;")
        code(f"{name}_reset();")
        with code.block(f"for (t = 0; t < {graph.time_steps}u; t++)"):
            code(f"run(sample{f' + t * {frame}u' if graph.input.frames > 1 else ''}, 0);")
            with code.block(f"for (c = 0; c < {classes}u; c++)"):
                code("logits[c] = signed32((t ? (uint32_t)logits[c] : 0u) + (uint32_t)logits_of[c]);")
        code(f"{name}_reset();")


def header_text(plan: Plan, name: str) -> str:
    """The .h file."""
    graph = plan.graph
    channels, height, width = plan.shapes[0]
    frames = graph.input.frames
    layers = sum(isinstance(node, ir.Firing) for node in graph.nodes)
    guard = f"{name}_H"
    defines = {
        "CHANNELS": channels,
        "HEIGHT": height,
        "WIDTH": width,
        "FRAMES": frames,
        "INPUT_SIZE": frames * channels * height * width,
        "CLASSES": plan.shapes[-1][0],
        "TIME_STEPS": graph.time_steps,
        "LAYERS": layers,
    }
    when = "step" if plan.streaming else "run"
    spikes = ", ".join(f"{plan.edges[i].bytes}u" for i, n in enumerate(graph.nodes) if isinstance(n, ir.Firing))
    step = f"""
/* One step at a time: membranes are kept between calls. frame: CHANNELS*HEIGHT*WIDTH bytes; logits_step: CLASSES values,
   which add up to the logits of a sequence. Call {name}_reset before a new sequence; {name}_run and {name}_self_test
   reset before and after. */
#define {name}_FRAME_SIZE {channels * height * width}
void {name}_reset(void);
void {name}_step(const uint8_t *frame, int32_t *logits_step);
"""
    return f"""/* {title(plan, name)} */
#ifndef {guard}
#define {guard}

#include <stdint.h>

{chr(10).join(f"#define {name}_{key} {number}" for key, number in defines.items())}

#ifdef __cplusplus
extern "C" {{
#endif

/* sample: FRAMES*CHANNELS*HEIGHT*WIDTH bytes in this order; logits: CLASSES values. Not reentrant: buffers are static. */
void {name}_run(const uint8_t *sample, int32_t *logits);

/* 0 if the stored sample gives the stored logits and spikes, else 1. */
int {name}_self_test(void);
{step if plan.streaming else ""}
#ifdef {name}_TRACE
/* Supplied by you: called once for every spiking layer per {when}, layers in order, with its spikes of {
        "this step" if plan.streaming else "all steps"
    }: for every
   step, row and column the channel bits, channel c in bit c % 8 of byte c / 8. */
#define {name}_SPIKE_BYTES {{{spikes}}} /* per layer */
void {name}_spikes(uint32_t layer, const uint8_t *spikes);
#endif

#ifdef __cplusplus
}}
#endif

#endif
"""
