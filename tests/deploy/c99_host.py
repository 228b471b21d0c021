"""Compile emitted C for this machine, run it as its own process and read back every logit and spike."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from bitspike.deploy import c99, ir, reference

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]

# Reads samples from stdin until its end; writes logits and then spikes of every layer, in the order of calls.
DRIVER = """
#include <stdio.h>
#include "net.h"
static const uint32_t sizes[] = {@SIZES@};
void net_spikes(uint32_t layer, const uint8_t *spikes)
{
    if (!net_done) fwrite(spikes, 1, sizes[layer], stdout);
}
int main(void)
{
    static uint8_t sample[net_INPUT_SIZE];
    static int32_t logits[net_CLASSES];
    int status = net_self_test();
    net_done = 0;
    if (status) return 10 + status;
    while (fread(sample, 1, sizeof sample, stdin) == sizeof sample) {
@RUN@
    }
    return 0;
}
"""
RUN = """        net_run(sample, logits);
        fwrite(logits, 4, net_CLASSES, stdout);"""
STEP = """        uint32_t t;
        net_reset();
        for (t = 0; t < net_TIME_STEPS; t++) {
            net_step(sample + (net_FRAMES > 1 ? t * net_FRAME_SIZE : 0), logits);
            fwrite(logits, 4, net_CLASSES, stdout);
        }"""


def compiler(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


def build(graph: ir.Graph, folder: Path, cc: str, flags: list[str], *, streaming: bool = False) -> Path:
    """The driver with the emitted network as an executable."""
    c99.export(graph, folder, name="net", streaming=streaming)
    steps = 1 if streaming else graph.time_steps
    shapes = ir.node_shapes(graph)
    lifs = [shapes[i] for i, node in enumerate(graph.nodes) if isinstance(node, ir.Firing)]
    sizes = ", ".join(str(steps * h * w * ((c + 7) // 8)) for c, h, w in lifs)
    driver = DRIVER.replace("@SIZES@", sizes).replace("@RUN@", STEP if streaming else RUN)
    (folder / "main.c").write_text(driver.replace("static const", "static int net_done = 1;\nstatic const", 1))
    command = [cc, *STRICT, *flags, "-Dnet_TRACE", "net.c", "main.c", "-o", "net"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[:3000]
    return folder / "net"


def outputs(program: Path, samples: np.ndarray) -> bytes:
    done = subprocess.run([program], input=samples.tobytes(), capture_output=True, timeout=120)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.decode()[:3000]}"
    return done.stdout


def channel_bits(spikes: np.ndarray) -> np.ndarray:
    """Spikes (T, C, H, W) as the emitted code stores them."""
    return np.packbits(np.moveaxis(spikes, 1, -1), axis=-1, bitorder="little")


def expected(graph: ir.Graph, samples: np.ndarray, *, streaming: bool = False) -> bytes:
    """What the driver writes if the emitted code equals the reference."""
    result = reference.run(graph, samples)
    parts = []
    for n in range(len(samples)):
        spikes = [channel_bits(s[:, n]) for _, s in sorted(result.spikes.items())]
        if streaming:
            for t in range(graph.time_steps):
                parts += [s[t].tobytes() for s in spikes] + [result.steps[t, n].astype("<i4").tobytes()]
        else:
            parts += [s.tobytes() for s in spikes] + [result.logits[n].astype("<i4").tobytes()]
    return b"".join(parts)
