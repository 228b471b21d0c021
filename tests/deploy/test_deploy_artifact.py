"""The bytes of an artifact, read back by an independent walk of docs/format.md."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from deploy_cases import Case, small
from helpers import images
from test_deploy_check import attending, broken, every_node, i32, lif, ones

from bitspike.deploy import Artifact, artifact, compile, ir, reference
from bitspike.errors import LoweringError

OPERATIONS = [ir.Input, ir.Conv, ir.Linear, ir.Lif, ir.OrPool, ir.SumPool, ir.Add, ir.Readout, ir.Attention]
SECTIONS = {1: "GRAPH", 2: "PARAMS", 3: "WEIGHTS", 4: "CALIB", 5: "META", 6: "TESTVEC"}


def sections(data: bytes) -> dict[str, bytes]:
    """Bodies by name; asserts every rule of header, table and padding."""
    magic, major, minor, length, count, crc = struct.unpack_from("<4sHHQII", data)
    assert (magic, major, minor, length) == (b"BSPK", 1, 1, len(data)) and 3 <= count <= 16
    head = data[:20] + b"\0\0\0\0" + data[24 : 24 + 32 * count]
    assert artifact.crc32c(head) == crc
    bodies, position, previous = {}, 24 + 32 * count, 0
    for i in range(count):
        kind, flags, offset, size, body_crc, zero = struct.unpack_from("<IIQQII", data, 24 + 32 * i)
        assert previous < kind and flags == int(kind <= 3) and offset == position and zero == 0
        body = data[offset : offset + size]
        assert artifact.crc32c(body) == body_crc
        position = offset + size + -size % 8
        assert not any(data[offset + size : position])
        bodies[SECTIONS[kind]], previous = body, kind
    assert position == len(data)
    return bodies


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, size: int) -> bytes:
        """``size`` bytes; the position then skips zeros to a multiple of 4."""
        body = self.data[self.position : self.position + size]
        assert len(body) == size
        end = self.position + size + -size % 4
        assert not any(self.data[self.position + size : end])
        self.position = end
        return body

    def array(self, code: int, length: int) -> np.ndarray:
        if code == 0:
            return np.repeat(np.frombuffer(self.take(4), "<i4"), length)
        return np.frombuffer(self.take(code * length), f"<i{code}").astype(np.int32)

    def weights(self, bits: int, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        stream = np.unpackbits(np.frombuffer(self.take(-(-count * bits // 8)), np.uint8), bitorder="little")
        assert not stream[count * bits :].any()
        values = stream[: count * bits].reshape(count, bits) @ (1 << np.arange(bits))
        if bits == 1:
            return np.where(values, 1, -1).reshape(shape)
        return np.where(values >= 1 << (bits - 1), values - (1 << bits), values).reshape(shape)


def assert_holds(data: bytes, graph: ir.Graph) -> dict[str, bytes]:
    """The bytes hold exactly ``graph``."""
    bodies = sections(data)
    steps, count = struct.unpack_from("<II", bodies["GRAPH"])
    assert (steps, count) == (graph.time_steps, len(graph.nodes)) and len(bodies["GRAPH"]) == 8 + 64 * count
    params, weights = Cursor(bodies["PARAMS"]), Cursor(bodies["WEIGHTS"])
    for i, (node, shape) in enumerate(zip(graph.nodes, ir.node_shapes(graph), strict=True)):
        word = struct.unpack_from("<I2i13I", bodies["GRAPH"], 8 + 64 * i)
        assert OPERATIONS[word[0]] is type(node) and word[3:6] == shape
        sources = ir.sources(node)
        assert word[1:3] == (*sources, -1, -1)[:2] and word[14] == (sources[2] if len(sources) == 3 else 0)
        arrays: list[np.ndarray] = []
        used = set()
        match node:
            case ir.Input():
                arrays, used = [np.array(node.zero_point)], {12}
                assert word[12] == node.frames
            case ir.Conv():
                used = {6, 7, 8, 9, 10, 11}
                assert word[6:12] == (*node.weight.shape[2:], node.stride, node.padding, node.groups, node.bits)
            case ir.Linear():
                used = {11}
                assert word[11] == node.bits
            case ir.Lif():
                arrays, used = [*node.multiplier, node.bias, node.threshold, node.membrane_shift], {11, 12, 13}
                assert word[11:14] == (node.membrane_bits, node.leak_shift, int(node.soft_reset))
            case ir.OrPool():
                used = {6, 7, 8, 9}
                assert word[6:10] == (node.kernel, node.kernel, node.stride, node.padding)
            case ir.SumPool():
                used = {6, 7, 8}
                assert word[6:9] == (node.kernel, node.kernel, node.stride)
            case ir.Attention():
                used = {10}
                assert word[10] == node.heads
            case ir.Readout():
                arrays, used = [node.bias], {11, 12}
                assert word[11:13] == (node.bits, int(node.pool))
        assert not any(word[w] for w in range(6, 14) if w not in used), "unused words are zero"
        for position, array in enumerate(arrays):
            np.testing.assert_array_equal(params.array(word[15] >> 4 * position & 15, len(array)), array)
        assert word[15] >> 4 * len(arrays) == 0
        if isinstance(node, ir.Conv | ir.Linear | ir.Readout):
            np.testing.assert_array_equal(weights.weights(node.bits, node.weight.shape), node.weight)
    assert params.position == len(bodies["PARAMS"]) and weights.position == len(bodies["WEIGHTS"])
    return bodies


def wild() -> ir.Graph:
    """every_node() with weights of 1, 3, 5 and 8 bits and parameters of every width."""
    rng = np.random.default_rng(0)
    graph = every_node()
    for index, bits in ((1, 1), (4, 3), (8, 5), (10, 8)):
        node = graph.nodes[index]
        top = max(2 ** (bits - 1) - 1, 1)
        weight = rng.integers(-top, top + 1, node.weight.shape).astype(np.int8)
        weight[weight == 0] = 1
        graph.nodes[index] = type(node)(**{**vars(node), "weight": weight, "bits": bits})
    graph.nodes[2] = lif(
        (1,),
        4,
        bias=i32(-128, 127, 5, 0),
        threshold=i32(300, 1, 2, -300),
        membrane_shift=np.array([0, 3, 1, 2], np.uint8),
    )
    graph.nodes[5] = lif(
        (4, 3), 4, bias=i32(-70000, 1, 2, 3), threshold=i32(32767, -32768, 0, 1), soft_reset=True, leak_shift=3
    )
    graph.nodes[10] = type(graph.nodes[10])(**{**vars(graph.nodes[10]), "bias": i32(1, 2, 3, 4, 128)})
    return graph


@pytest.mark.parametrize("graph", [every_node, wild, attending], ids=["plain", "wild", "attention"])
def test_bytes_hold_the_graph(graph) -> None:
    bodies = assert_holds(artifact.encode(graph()), graph())
    assert set(bodies) == {"GRAPH", "PARAMS", "WEIGHTS", "META"}
    assert json.loads(bodies["META"]) == {"names": graph().names}


def test_bytes_hold_a_compiled_network() -> None:
    case = Case("resnet19")
    compiled = compile(case.build(), case.samples(), meta={"π": [1, None]})
    bodies = assert_holds(compiled.to_bytes(), compiled.graph)
    rates = np.frombuffer(bodies["CALIB"], "<f4")
    np.testing.assert_allclose(rates, np.array(compiled.graph.rates, np.float32), equal_nan=True)
    assert json.loads(bodies["META"])["π"] == [1, None]


def test_test_vectors() -> None:
    samples = images(3, (1, 6, 6))
    compiled = compile(small(), samples, test_vectors=2)
    result = reference.run(compiled.graph, samples.numpy())
    cursor = Cursor(sections(compiled.to_bytes())["TESTVEC"])
    assert struct.unpack("<I", cursor.take(4)) == (2,)
    for n in range(2):
        assert cursor.take(36) == samples[n].numpy().tobytes()
        np.testing.assert_array_equal(np.frombuffer(cursor.take(4 * 3), "<i4"), result.logits[n])
        trace = b"".join(result.spikes[i][:, n].tobytes() for i in sorted(result.spikes))
        assert struct.unpack("<I", cursor.take(4)) == (artifact.crc32c(trace),)
    assert cursor.position == len(cursor.data)
    assert "TESTVEC" not in sections(compile(small(), samples, test_vectors=0).to_bytes())


def test_encoding_is_deterministic() -> None:
    samples = images(3, (1, 6, 6))
    first, second = (compile(small(), samples, meta=dict.fromkeys(order, 0)).to_bytes() for order in ("ab", "ba"))
    assert first == second
    assert first != compile(small(seed=1), samples).to_bytes()


def test_frames_are_stored_as_frames() -> None:
    frames = images(2, (3, 1, 6, 6))
    compiled = compile(small(), frames, test_vectors=1)
    assert compiled.graph.input.frames == 3
    assert frames[0].numpy().tobytes() in sections(compiled.to_bytes())["TESTVEC"]


@pytest.mark.parametrize(
    "data, expected",
    [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
    ids=["empty", "digits", "zeros", "ones"],
)
def test_crc32c_known_values(data: bytes, expected: int) -> None:
    assert artifact.crc32c(data) == expected


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 3, 31, 33])
def test_pack_weights(bits: int, count: int) -> None:
    top = max(2 ** (bits - 1) - 1, 1)
    weight = np.random.default_rng(bits).integers(-top, top + 1, (count,)).astype(np.int8)
    weight[weight == 0] = -1 if bits == 1 else 0
    packed = artifact.pack_weights(weight, bits)
    assert len(packed) == 4 * -(-count * bits // 32)
    np.testing.assert_array_equal(Cursor(packed).weights(bits, (count,)), weight)


def test_pack_weights_by_hand() -> None:
    assert artifact.pack_weights(np.array([1, -1, -1, 1, 1], np.int8), 1) == b"\x19\0\0\0"
    assert artifact.pack_weights(np.array([3, -1, -3], np.int8), 3) == bytes([0b01111011, 0b1, 0, 0])


@pytest.mark.parametrize(
    "values, code",
    [([7, 7], 0), ([70000, 70000], 0), ([-127, 127], 1), ([5, 128], 2), ([-32767, 9], 2), ([1, 32768], 4)],
    ids=str,
)
def test_parameters_are_stored_in_their_narrowest_form(values: list[int], code: int) -> None:
    graph = every_node()
    graph.nodes[9] = lif((8,), 6, bias=i32(*values, *[values[0]] * 4))
    record = sections(artifact.encode(graph))["GRAPH"][8 + 64 * 9 :]
    assert struct.unpack_from("<I", record, 60)[0] >> 4 & 15 == code


def test_invalid_graph_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="node 1"):
        artifact.save(broken(1, bits=9), tmp_path / "x.bspk")
    assert list(tmp_path.iterdir()) == []


def test_save_is_atomic_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "net.bspk"
    target.write_bytes(b"old")
    size = artifact.save(every_node(), target)
    assert target.read_bytes() == artifact.encode(every_node()) and size == target.stat().st_size
    assert list(tmp_path.iterdir()) == [target]
    compiled = compile(small(), images(2, (1, 6, 6)))
    assert isinstance(compiled, Artifact)
    assert compiled.save(str(target)) == len(target.read_bytes()) and target.read_bytes() == compiled.to_bytes()


def test_int16_channels_are_counted_per_layer() -> None:
    compiled = compile(small(), images(2, (1, 6, 6)))
    counted = compiled.int16_channels()
    assert list(counted) == ["first", "second"] and all(0 <= fit <= of == 4 for fit, of in counted.values())
    assert counted["second"] == (4, 4), "spikes into 36 binary weights stay far below 16 bits"
    assert counted["first"] == (0, 4), "bytes times 8-bit weights do not"


def test_one_bit_weights_cost_one_bit() -> None:
    graph = ir.Graph(1, [
        ir.Input(1, 1, 1, 1, (0,)),
        ir.Conv(0, ones(8, 1, 1, 1), 1),
        lif((1,), 8),
        ir.Conv(2, ones(64, 8, 1, 1), 1),
        lif((3,), 64),
        ir.Readout(4, ones(2, 64), i32(0, 0), 2),
    ])  # fmt: skip
    assert len(sections(artifact.encode(graph))["WEIGHTS"]) == 4 + 64 + 32
