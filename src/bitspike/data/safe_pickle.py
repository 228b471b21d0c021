"""Reading the pickles CIFAR comes in without giving them any power.

A pickle may name any Python callable and have it called. Here only the five names that a pickled byte
array needs are known, and even those lead to the small stand-ins below, never to numpy itself, so
that the worst a hostile or damaged file can do is fail.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from bitspike.data.errors import DataError

__all__ = ["load_pickle"]

# The readable twin of pickle.Unpickler. The compiled one reserves memory for any memo index a damaged
# file names, which can exhaust the machine; this one uses a dictionary. Large arrays cost the same.
_PythonUnpickler: Any = pickle._Unpickler


class _Array:
    """Stand-in for a pickled numpy array; `array` is None until its state arrives."""

    array: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise ValueError("array state is not (version, shape, dtype, order, bytes)")
        _version, shape, dtype, fortran, raw = state
        self.array = _byte_array(raw, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """Stand-in for a pickled dtype; only unsigned bytes are understood, whose state carries nothing."""

    def __init__(self, code: object, *_flags: object) -> None:
        if code not in ("u1", b"u1", "uint8", b"uint8"):
            raise ValueError(f"array dtype {code!r}; accepted: u1")

    def __setstate__(self, _state: object) -> None:
        pass


def _byte_array(raw: object, dtype: object, shape: object, order: object) -> np.ndarray:
    if not (isinstance(raw, (bytes, bytearray)) and isinstance(dtype, _Dtype) and isinstance(shape, tuple)):
        raise ValueError("array parts are not (bytes, dtype, shape)")
    if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) != len(raw):
        raise ValueError(f"array shape {shape} does not fit its {len(raw)} bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(_subtype: object, _shape: object, _code: object) -> _Array:
    # The arguments describe an empty placeholder; the state that follows replaces all of it.
    return _Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    result = _Array()
    result.array = _byte_array(raw, dtype, shape, order)
    return result


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError(f"bytes encoded with {encoding!r}; accepted: latin1")
    return text.encode("latin1")


class _Function:
    """A stand-in function that a pickle can call but, unlike a plain function, cannot set attributes on."""

    __slots__ = ("_body",)

    def __init__(self, body: Callable[..., object]) -> None:
        self._body = body

    def __call__(self, *arguments: object) -> object:
        return self._body(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise ValueError("it tries to change a function")


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): object(),  # only ever passed along, so it need not be callable
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy.core.numeric", "_frombuffer"): _Function(_frombuffer),
    ("numpy._core.numeric", "_frombuffer"): _Function(_frombuffer),
    ("_codecs", "encode"): _Function(_encode),
}


class _Unpickler(_PythonUnpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data file needs") from None

    def _load_bytearray(self) -> None:
        # The inherited one reserves whatever length the file claims before reading.
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray


def load_pickle(data: bytes, source: str) -> dict[str, Any]:
    """The dictionary in `data`, keys as str, byte arrays as uint8 arrays; `source` names the file in errors.

    Raises DataError if the pickle is damaged, names anything but byte arrays and plain containers,
    or holds something other than a dictionary.
    """
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything, MemoryError included
        raise DataError(f"{source}: not a readable data pickle: {str(error) or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise DataError(f"{source}: holds a {type(content).__name__}, not a dictionary")
    names = [key.decode("latin1") if isinstance(key, bytes) else str(key) for key in content]
    values = [value.array if isinstance(value, _Array) else value for value in content.values()]
    return dict(zip(names, values, strict=True))
