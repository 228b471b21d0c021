"""Write what the program needs: net.c and net.h, images.bin, and expected.txt with what it must print.

    python prepare.py [--model FILE.bspk] [--data NAME] [--images N] OUT

Expected logits and spikes are those of the native engine. Without a model, a network of random weights is made for the
digits of scikit-learn: it recognises nothing, but every bit of it can be compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitspike import data, engine
from bitspike.deploy import artifact, c99, ir
from bitspike.errors import BitspikeError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--model", type=Path, help="artifact of a trained network (default: random weights)")
    parser.add_argument("--data", help="data set of the test images (default: the one the network was trained on)")
    parser.add_argument("--images", type=int, default=100, help="number of test images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    network = engine.load(options.model if options.model else artifact.encode(random_network()))
    name = options.data or network.meta.get("data", "digits")
    images = data.load(name).test.inputs[: options.images]
    if images.shape[1:] != network.input_shape:
        raise BitspikeError(f"images of {name} are {images.shape[1:]}, the network takes {network.input_shape}")
    images.tofile(options.out / "images.bin")
    (options.out / "expected.txt").write_text("".join(expected_lines(network, images)))
    print("net:", c99.export(network.graph(), options.out, name="net", test_samples=images))
    return 0


def expected_lines(network: engine.Network, images: NDArray[np.uint8]) -> list[str]:
    """One line per image as main.c prints it: logits, and the CRC-32C of all spikes as a signed number."""
    lines = []
    for i, logits in enumerate(network.run(images)):
        spikes = (np.moveaxis(s, 1, -1) for s in network.trace(images[i]).values())  # (T, H, W, C)
        stream = b"".join(np.packbits(s, axis=-1, bitorder="little").tobytes() for s in spikes)
        checksum = np.uint32(artifact.crc32c(stream)).astype(np.int32)
        lines.append(f"image {i} {' '.join(map(str, logits))} spikes {checksum}\n")
    return lines


def random_network() -> ir.Graph:
    """8x8 images to 10 classes: 3x3 convolutions of 8 and 1 bit, pooling, a 4-bit linear layer."""
    rng = np.random.default_rng(0)

    def neurons(source: int, channels: int, threshold: int) -> ir.Lif:
        bias = rng.integers(-threshold // 4, threshold // 4, channels).astype(np.int32)
        shift = np.full(channels, max(threshold.bit_length() - 4, 0), np.uint8)
        ones = np.ones((1, channels), np.int32)
        return ir.Lif((source,), ones, bias, np.full(channels, threshold, np.int32), shift, 4, 1)

    first = rng.integers(-127, 128, (16, 1, 3, 3)).astype(np.int8)
    second = rng.choice(np.array([-1, 1], np.int8), (32, 16, 3, 3))
    third = rng.integers(-7, 8, (40, 512)).astype(np.int8)
    last = rng.integers(-127, 128, (10, 40)).astype(np.int8)
    nodes: list[ir.Node] = [ir.Input(1, 8, 8, 1, (73,)), ir.Conv(0, first, 8, padding=1), neurons(1, 16, 12000)]
    nodes += [ir.Conv(2, second, 1, padding=1), neurons(3, 32, 8), ir.OrPool(4, 2, 2)]
    nodes += [ir.Linear(5, third, 4), neurons(6, 40, 60), ir.Readout(7, last, np.zeros(10, np.int32), 8)]
    return ir.Graph(4, nodes)


if __name__ == "__main__":
    raise SystemExit(main())
