"""Loading and running artifacts with the native engine."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import bitspike._native as _native

from ..errors import ArtifactError, BitspikeError, ConfigError
from .describe import build_graph, describe, parse_meta

if TYPE_CHECKING:
    from ..deploy import ir

__all__ = ["Network", "kernel_families", "levels", "load"]

_RATE_CHUNK = 32  # samples traced at a time


def levels() -> list[str]:
    """Kernel levels that this machine can run, slowest first."""
    return list(_native.levels())


def kernel_families() -> list[str]:
    """Families of kernels for layers that read spikes: all give the same bits, they differ in speed.

    "planes": AND and population count, once per bit of the weights. "events": rows of weights added for each spike.
    "tables": groups of spikes look up sums of weights.
    """
    return list(_native.families())


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    level: str | None = None,
    max_memory: int = 1 << 30,
    kernels: str | Mapping[str, str] | None = None,
) -> Network:
    """Verify an artifact and prepare it to run.

    ``level`` forces one of :func:`levels`; without it the environment variable ``BITSPIKE_LEVEL`` does, else the
    fastest one is taken. ``max_memory`` bounds the bytes that the network may use, the file and the activations of
    one run included. ``kernels`` asks for one of :func:`kernel_families` for every layer, or for the layers it names
    (see :attr:`Network.kernels`, :func:`bitspike.engine.autotune`); without it the environment variable
    ``BITSPIKE_KERNELS`` does, else an estimate from bits, shape and firing rate decides. A layer that a family cannot
    compute keeps the estimate's choice. Raises ArtifactError naming the file and what is wrong with it.
    """
    if max_memory < 0:
        raise ConfigError(f"max_memory is {max_memory}, accepted: at least 0")
    try:
        chosen = _native.select_level(level or "")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    where = "artifact" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = source if isinstance(source, bytes) else _read(source, max_memory)
        limit = min(max_memory, 1 << 62)
        wanted = (
            kernels if isinstance(kernels, str) else os.environ.get("BITSPIKE_KERNELS", "") if kernels is None else ""
        )
        network = Network(_native.Network(data, chosen, limit, _families([wanted])), where)
        if isinstance(kernels, Mapping):
            names = network.names
            unknown = [name for name in kernels if name not in network.kernels]
            if unknown:
                raise ConfigError(f"kernels name {unknown[0]!r}, accepted: {', '.join(network.kernels)}")
            families = _families([kernels.get(name, "") for name in names])
            network = Network(_native.Network(data, chosen, limit, families), where)
    except ConfigError:
        raise
    except (_native.FormatError, ArtifactError) as error:
        raise ArtifactError(f"{where}: {error}") from None
    except MemoryError:
        raise ArtifactError(f"{where}: not enough memory to load it") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{where}: cannot be read ({reason})") from None
    return network


def _families(wanted: list[str]) -> list[str]:
    for name in wanted:
        if name and name not in kernel_families():
            raise ConfigError(f"kernels are {name!r}, accepted: {', '.join(kernel_families())}")
    return wanted


def _read(path: str | os.PathLike[str], limit: int) -> bytes:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError("not a regular file")
        if status.st_size > limit:
            raise ArtifactError(f"{status.st_size} bytes exceed the memory limit of {limit} bytes")
        return file.read()


class Network:
    """A verified artifact, ready to run. Made by :func:`load`; calls from several threads are safe."""

    def __init__(self, native: _native.Network, where: str) -> None:
        self._native = native
        self._where = where
        self.meta: dict[str, Any] = parse_meta(native.meta)
        """Free JSON stored with the network; read by no computation."""

    def run(self, x: ArrayLike, *, threads: int = 1) -> NDArray[np.int32]:
        """Logits (N, classes) of samples ``x`` uint8 (N, C, H, W), or (N, T, C, H, W) where the network takes frames.

        Without the N axis, logits (classes,) of one sample. At most ``threads`` threads work, and never more than
        this process has processors; their number changes no result.
        """
        samples, single = self._samples(x)
        logits = np.empty((len(samples), self.num_classes), np.int32)
        self._native.run(samples, logits, steps=False, threads=_thread_count(threads))
        return logits[0] if single else logits

    def run_steps(self, x: ArrayLike, *, threads: int = 1) -> NDArray[np.int32]:
        """Logits (T, N, classes) before they are summed over time; (T, classes) for one sample."""
        samples, single = self._samples(x)
        flat = np.empty((len(samples), self.time_steps * self.num_classes), np.int32)
        self._native.run(samples, flat, steps=True, threads=_thread_count(threads))
        steps = flat.reshape(len(samples), self.time_steps, self.num_classes)
        return steps[0] if single else np.ascontiguousarray(np.swapaxes(steps, 0, 1))

    def trace(self, x: ArrayLike) -> dict[str, NDArray[np.uint8]]:
        """Spikes, 0 or 1, of every Lif and Mix by name: uint8 (T, N, C, H, W); (T, C, H, W) for one sample."""
        samples, single = self._samples(x)
        lifs = self._lifs
        shapes = {name: (len(samples), self.time_steps, *self._layout[i]["shape"]) for name, i in lifs.items()}
        flat = [np.empty((shape[0], int(np.prod(shape[1:]))), np.uint8) for shape in shapes.values()]
        self._native.trace(samples, flat)
        spikes = {name: s.reshape(shape) for (name, shape), s in zip(shapes.items(), flat, strict=True)}
        return {name: s[0] if single else np.ascontiguousarray(np.swapaxes(s, 0, 1)) for name, s in spikes.items()}

    def rates(self, x: ArrayLike) -> dict[str, float]:
        """Mean firing rate (spikes per neuron and step) of every Lif and Mix by name; NaN without samples."""
        samples, _ = self._samples(x)
        totals = dict.fromkeys(self._lifs, 0)
        shape = self.input_shape
        for first in range(0, len(samples), _RATE_CHUNK):
            for name, spikes in self.trace(samples[first : first + _RATE_CHUNK].reshape(-1, *shape)).items():
                totals[name] += int(np.count_nonzero(spikes))
        if len(samples) == 0:
            return dict.fromkeys(totals, float("nan"))
        neurons = {name: int(np.prod(self._layout[i]["shape"])) for name, i in self._lifs.items()}
        return {name: total / (len(samples) * self.time_steps * neurons[name]) for name, total in totals.items()}

    def profile(self, x: ArrayLike, *, repeats: int = 20) -> dict[str, float]:
        """Seconds that each node takes for one sample on one thread, the least of ``repeats``.

        The time of a Conv, Linear, Attention or MatMul is part of the node that reads it.
        """
        samples, _ = self._samples(x)
        if len(samples) != 1:
            raise BitspikeError(f"profile takes one sample, got {len(samples)}")
        return dict(zip(self.names, self._native.profile(samples, repeats=max(1, repeats)), strict=True))

    def self_test(self) -> int:
        """Run the stored test vectors and return their number; ArtifactError if any spike or logit differs."""
        try:
            return int(self._native.self_test())
        except _native.FormatError as error:
            raise ArtifactError(f"{self._where}: self-test failed: {error}") from None

    def graph(self) -> ir.Graph:
        """The integer graph, equal to the one that was written."""
        meta = {key: value for key, value in self.meta.items() if key != "names"} if self._stored_names else self.meta
        rates = np.frombuffer(self._native.calib or b"", "<f4").astype(float).tolist()
        return build_graph(self.time_steps, self.nodes, list(self._stored_names), rates, dict(meta))

    @property
    def level(self) -> str:
        """Kernel level in use, one of :func:`levels`."""
        return str(self._native.level)

    @cached_property
    def kernels(self) -> dict[str, str]:
        """Family of kernels, one of :func:`kernel_families`, of every layer that has a choice."""
        return {name: node["kernels"] for name, node in zip(self.names, self._layout, strict=True) if node["kernels"]}

    @property
    def time_steps(self) -> int:
        """T."""
        return int(self._native.time_steps)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W), or (T, C, H, W) where the network takes one frame per step."""
        frames, shape = self._layout[0]["option"], self._layout[0]["shape"]
        return tuple(shape) if frames == 1 else (frames, *shape)

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return int(self._layout[-1]["shape"][0])

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """One dict per node with the fields of its ``deploy.ir`` class and op, kind, sources, shape (C, H, W).

        Weights are unpacked anew at every access.
        """
        shapes = [node["shape"] for node in self._layout]
        raw_nodes = [self._native.node(i, arrays=True) for i in range(len(shapes))]
        return [describe(raw, [shapes[s] for s in raw["sources"]]) for raw in raw_nodes]

    @cached_property
    def names(self) -> list[str]:
        """One name per node, unique: the stored one, ``node<i>`` where there is none."""
        names = self._stored_names or [f"node{i}" for i in range(self._native.node_count)]
        repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        return [f"{name}#{i}" if name in repeated else name for i, name in enumerate(names)]

    @property
    def fits_int16(self) -> dict[str, NDArray[np.bool_]]:
        """Per Lif and channel: does the membrane provably stay within 16 bits?"""
        nodes = self.nodes
        return {name: nodes[i]["fits_int16"] for name, i in self._lifs.items() if nodes[i]["op"] == "Lif"}

    @property
    def sources(self) -> list[tuple[int, ...]]:
        """Indices of the nodes that each node reads."""
        return [tuple(node["sources"]) for node in self._layout]

    def example(self) -> NDArray[np.uint8]:
        """One sample: the first stored test vector, or noise of a fixed seed if there is none."""
        stored = self._native.test_sample
        if stored is None:
            return np.random.default_rng(0).integers(0, 256, self.input_shape, np.uint8)
        return np.frombuffer(stored, np.uint8).reshape(self.input_shape).copy()

    @property
    def artifact_bytes(self) -> int:
        """Size of the file."""
        return int(self._native.artifact_bytes)

    @property
    def memory_bytes(self) -> int:
        """The file, prepared weights and parameters, and the activations of one run."""
        return int(self._native.memory_bytes)

    @property
    def test_vectors(self) -> int:
        """Number of stored test vectors, see :meth:`self_test`."""
        return int(self._native.test_vectors)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        return f"<bitspike network {shape} -> {self.num_classes}, T={self.time_steps}, level {self.level}>"

    @cached_property
    def _layout(self) -> list[dict[str, Any]]:
        """Nodes without their arrays."""
        return [self._native.node(i, arrays=False) for i in range(self._native.node_count)]

    @cached_property
    def _stored_names(self) -> list[str]:
        names = self.meta.get("names")
        if not isinstance(names, list) or len(names) != self._native.node_count:
            return []
        return names if all(isinstance(name, str) for name in names) else []

    @cached_property
    def _lifs(self) -> dict[str, int]:
        return {self.names[i]: i for i, node in enumerate(self._layout) if node["op"] in ("Lif", "Mix")}

    def _samples(self, x: ArrayLike) -> tuple[NDArray[np.uint8], bool]:
        """Samples as contiguous rows (N, values), and whether ``x`` was a single one."""
        given, shape = np.asarray(x), self.input_shape
        single = given.ndim == len(shape)
        expected = f"uint8 (N, {', '.join(map(str, shape))}) or {shape}"
        if given.dtype != np.uint8:
            raise BitspikeError(f"samples have dtype {given.dtype} and shape {given.shape}, accepted: {expected}")
        if given.shape[-len(shape) :] != shape or given.ndim - len(shape) not in (0, 1):
            raise BitspikeError(f"samples have shape {given.shape}, accepted: {expected}")
        count = 1 if single else len(given)
        return np.ascontiguousarray(given).reshape(count, int(np.prod(shape))), single


def _thread_count(threads: int) -> int:
    if threads < 1:
        raise ConfigError(f"threads are {threads}, accepted: at least 1")
    return min(int(threads), 64)
