"""`save` and `load`: nested data with tensors in one safetensors file, called like torch.save and torch.load."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .files import DamagedFileError, replace_file
from .structure import Encoder, Leaf, decode
from .tensor_file import TensorFile, array_chunks, file_order, stream

STRUCTURE, DIGEST = "dist_train.structure", "dist_train.sha256"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write `obj` to the path or binary file object `f`: a state_dict, or any nesting of data and tensors.

    `obj` may nest dict, list, tuple, str, int, float, bool, None, tensors and NumPy arrays. The file is a safetensors
    file, which other tools read as a flat dict of tensors. A path is written under a temporary name, flushed, and
    renamed, so a crash or a full disk leaves the old file as it was. Two names of one tensor are stored twice.

    Raises TypeError, naming the key path, for anything that is not data (a module, a function, a set).
    """
    encoder = Encoder("obj")
    structure = json.dumps(encoder.encode(obj), separators=(",", ":"))
    # "format" tells readers such as the transformers library that names and layout are PyTorch's.
    metadata = {"format": "pt", STRUCTURE: structure, DIGEST: _digest(structure, encoder.arrays)}
    chunks = stream(encoder.arrays, metadata)
    if isinstance(f, str | os.PathLike):
        replace_file(Path(f), chunks)
    else:
        _check_binary(f, "write")
        for chunk in chunks:
            f.write(chunk)


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    *,
    weights_only: bool = True,
    tensor: Callable[[NDArray[Any]], Any] = np.asarray,
) -> Any:
    """Read what `save` wrote to the path or binary file object `f`, or any safetensors file as a flat dict of tensors.

    `map_location` (a device or its name) moves the tensors there. A file never contains code, so `weights_only`, known
    from torch.load, can only be True. `tensor` makes a tensor of an array.

    Raises DamagedFileError (a ValueError) for a truncated or altered file, TypeError for a type NumPy does not have.
    """
    if not weights_only:
        raise ValueError("weights_only=False is not possible: files hold data, never code")
    file = _open(f)
    make = _placed(tensor, map_location)
    arrays = {key: file.read(key) for key in file.in_file_order()}
    if STRUCTURE not in file.metadata and DIGEST not in file.metadata:
        return {key: make(arrays[key]) for key in file.entries}
    return decode(_checked_structure(file, arrays), lambda leaf: _fill(leaf, arrays, make, file.name))


def _digest(structure: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in file_order(arrays):
        for chunk in array_chunks(arrays[name]):
            digest.update(chunk)
    return digest.hexdigest()


def _check_binary(f: Any, method: str) -> None:
    if isinstance(f, io.TextIOBase) or not hasattr(f, method):
        raise TypeError(f"f must be a path or a file opened in binary mode, not {type(f).__name__}")


def _open(f: str | os.PathLike[str] | IO[bytes]) -> TensorFile:
    if isinstance(f, str | os.PathLike):
        name = os.fspath(f)
        with open(name, "rb") as file:
            _refuse_pickle(file.read(9), name)
        return TensorFile(Path(f), name)
    _check_binary(f, "read")
    name, content = getattr(f, "name", "the file object"), f.read()
    _refuse_pickle(content[:9], name)
    return TensorFile(content, str(name))


def _refuse_pickle(start: bytes, name: str) -> None:
    # A safetensors file of 896 bytes of header begins like a pickle, but goes on with the header's brace.
    if start.startswith(_PICKLES) and not start.endswith(b"{"):
        raise ValueError(
            f"{name} is a pickle, as torch.save writes it; a pickle can run code and is not read. "
            "Convert it where PyTorch is installed: safetensors.torch.save_file(torch.load(old), new)"
        )


def _checked_structure(file: TensorFile, arrays: Mapping[str, NDArray[Any]]) -> Any:
    structure = file.metadata.get(STRUCTURE, "")
    if _digest(structure, arrays) != file.metadata.get(DIGEST):
        raise DamagedFileError(f"{file.name} is damaged: its content does not have the recorded SHA-256")
    try:
        return json.loads(structure)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{file.name} has an unreadable structure: {error}") from None


def _fill(leaf: Leaf, arrays: Mapping[str, NDArray[Any]], make: Callable[[NDArray[Any]], Any], name: str) -> Any:
    array = arrays.get(leaf.name)
    if array is None or array.shape != leaf.shape or array.dtype.name != leaf.dtype:
        raise DamagedFileError(f"{name} does not hold the tensor {leaf.name!r} which its structure names")
    return array if leaf.kind == "$array" else make(array)


def _placed(tensor: Callable[[NDArray[Any]], Any], map_location: Any) -> Callable[[NDArray[Any]], Any]:
    if map_location is None or str(map_location) == "cpu":
        return tensor
    if callable(map_location) or isinstance(map_location, dict):
        raise TypeError(f"map_location must be a device or its name, not {type(map_location).__name__}")
    return lambda array: tensor(array).to(map_location)
