"""save and load: any nesting of data and tensors survives, damage is noticed, code is refused, other tools read the file."""

from __future__ import annotations

import collections
import enum
import io
import json
import math
import os
import random
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_program import Module, Tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dist_train.checkpoint import DamagedFileError, load, save, tensor_file

DTYPES = ["float16", "float32", "float64", "complex64", "bool"] + [f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)]  # fmt: skip


def round_trip(obj: Any, **options: Any) -> Any:
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return load(file, **options)


def same(a: Any, b: Any) -> bool:
    """Equal in value, type and structure; NaN equals NaN."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=True)
        return type(b) is dict and all(same(k, l) and same(v, w) for (k, v), (l, w) in pairs)  # noqa: E741
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (repr(a) == repr(b))


OPTIMIZER = {
    "state": {0: {"step": 7, "exp_avg": np.ones((2, 3), np.float32)}, 1: {"step": 7.0, "exp_avg": np.zeros(0)}},
    "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "foreach": None, "params": [0, 1]}],
}


@pytest.mark.parametrize(
    "obj",
    [
        OPTIMIZER,
        {"model": {"0.weight": np.arange(6.0).reshape(2, 3)}, "optimizer": OPTIMIZER, "epoch": 3, "name": "ü\n\ud800"},
        {1: "int", "1": "str", 1.5: "float", True + 1: "two", None: 0},
        {False: 0, 3: 1, "": 2},
        {"$tensor": "a", "$x": {"$dict": [["$tuple"]]}},
        {"a": {"b": np.zeros(1)}, "a.b": np.ones(1), "__metadata__": np.ones(2)},
        [True, 1, 1.0, -0.0, 10**30, 1e-320, math.inf, -math.inf, math.nan, None, "", (), [], {}, ((1,), [(2,)])],
        np.array(3.0),
        [np.zeros((0, 3)), np.array(5), np.array(True)],
        3,
        {},
    ],
)
def test_data_survives(obj: Any) -> None:
    assert same(obj, round_trip(obj))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ARRAYS = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        PLAIN | ARRAYS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text() | st.integers() | st.booleans() | st.none(), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_any_data_survives(obj: Any) -> None:
    assert same(obj, round_trip(obj))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(dtype: str) -> None:
    array = np.array([[0, 1, 2], [3, 4, 250]]).astype(dtype)
    for variant in (array, array.T, array[:, ::-1], array[:, 1], array[:0], array.astype(array.dtype.newbyteorder())):  # fmt: skip
        found = round_trip({"x": variant})["x"]
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, variant)
        assert found.flags.writeable


def test_tensors_and_arrays_are_told_apart() -> None:
    shared = np.arange(3.0)
    obj = {"tensor": Tensor(shared), "array": shared, "tied": Tensor(shared), "scalar": Tensor(np.array(2.5))}
    found = round_trip(obj, tensor=Tensor)
    assert [type(value) for value in found.values()] == [Tensor, np.ndarray, Tensor, Tensor]
    assert found["scalar"].shape == ()
    assert all(np.array_equal(found[key].numpy(), shared) for key in ("tensor", "tied"))


def test_numpy_numbers_and_subclasses_become_plain() -> None:
    class Mode(enum.IntEnum):
        FAST = 3

    Point = collections.namedtuple("Point", "x y")
    obj = {"a": np.float64(0.1), "b": np.int64(3), "c": np.bool_(True), "d": Mode.FAST, "e": Point(1, 2)}
    assert same(round_trip(collections.OrderedDict(obj)), {"a": 0.1, "b": 3, "c": True, "d": 3, "e": (1, 2)})


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"model": [1, Module()]}, r"obj\['model'\]\[1\] is a Module; .*store its state_dict\(\)"),
        ({"f": lambda x: x}, r"obj\['f'\] is a function; .*code is never stored"),
        ({"c": Module}, r"obj\['c'\] is the class Module; "),
        (Module(), r"obj is a Module; "),
        ({"s": {1, 2}}, r"obj\['s'\] is a set; .*convert it"),
        ({"b": b"x"}, r"obj\['b'\] is a bytes"),
        ({"z": 1j}, r"obj\['z'\] is a complex"),
        ({"d": np.dtype("float32")}, r"obj\['d'\] is a Float32DType"),
        ({(1, 2): 3}, r"obj has the key \(1, 2\); only str, int"),
        ({"x": np.zeros(2, np.complex128)}, r"obj\['x'\] has type complex128, which cannot be stored"),
        ({"x": np.array([None])}, r"obj\['x'\] has type object, which cannot be stored"),
        ({"x": np.array(["a"])}, r"obj\['x'\] has type <U1, which cannot be stored"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path: Path, obj: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save(obj, tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_data_that_contains_itself() -> None:
    obj: list[Any] = []
    obj.append(obj)
    with pytest.raises(ValueError, match="nested deeper than 100 levels; does it contain itself"):
        save(obj, io.BytesIO())


def test_too_many_plain_values(monkeypatch: Any) -> None:
    monkeypatch.setattr(tensor_file, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(ValueError, match="store large lists of numbers as arrays"):
        save([0] * 1000, io.BytesIO())


# --- files


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save({"x": np.zeros(1000)}, path)
    old = path.read_bytes()
    code = (
        "import resource, sys, numpy; from dist_train.checkpoint import save\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))\n"
        "save({'x': numpy.ones(1000)}, sys.argv[1])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code, path], env=environment, capture_output=True, text=True)
    assert "OSError: [Errno 27] File too large" in result.stderr
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert path.read_bytes() == old


def test_a_file_keeps_its_permissions_and_its_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    save([1], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640
    assert load(str(tmp_path / "real")) == [1]


def test_a_device_is_written_to_and_not_replaced() -> None:
    save([1], "/dev/null")
    assert not Path("/dev/null").is_file()


def test_no_directory_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        save([1], tmp_path / "missing" / "x")
    with pytest.raises(FileNotFoundError, match="missing"):
        load(tmp_path / "missing")


@pytest.mark.parametrize("f", [3, None, io.StringIO()])
def test_wrong_file_objects(f: Any) -> None:
    for call in (lambda: save([1], f), lambda: load(f)):
        with pytest.raises(TypeError, match="must be a path or a file opened in binary mode"):
            call()


def content() -> bytes:
    file = io.BytesIO()
    save({"a": np.arange(7, dtype=np.float32), "b": [np.arange(3), 5], "c": "text"}, file)
    return file.getvalue()


def test_every_truncation_is_noticed() -> None:
    data = content()
    for length in range(len(data)):
        with pytest.raises(DamagedFileError):
            load(io.BytesIO(data[:length]))
    with pytest.raises(DamagedFileError, match="bytes of data instead of"):
        load(io.BytesIO(data + b"x"))


def test_every_flipped_bit_is_noticed_or_harmless() -> None:
    data, whole = content(), load(io.BytesIO(content()))
    chance = random.Random(0)
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << chance.randrange(8)
        try:
            assert same(load(io.BytesIO(flipped)), whole), place  # "format": "pt" is all that may change
        except (DamagedFileError, TypeError) as error:
            assert "the file object" in str(error)


def header(entries: Any, data: bytes = b"") -> io.BytesIO:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return io.BytesIO(len(text).to_bytes(8, "little") + text + data)


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (io.BytesIO(b""), "truncated or not a safetensors file"),
        (io.BytesIO(b"\xff" * 20), "truncated or not a safetensors file"),
        (header(b"[" * 100000), "unreadable header"),
        (header(b"\xff\xfe"), "unreadable header"),
        (header([]), "no JSON object"),
        (header({"a": 3}), "the entry of 'a' is unreadable"),
        (header({"a": {}}), "the entry of 'a' is unreadable"),
        (header({"a": entry(shape=3)}, b"1234"), "the entry of 'a' is unreadable"),
        (header({"a": entry(shape=[-1])}, b"1234"), "wrong type, shape or offset"),
        (header({"a": entry(shape=[True])}, b"1234"), "wrong type, shape or offset"),
        (header({"a": entry(shape=[1.0])}, b"1234"), "wrong type, shape or offset"),
        (header({"a": entry(dtype=["F32"])}, b"1234"), "wrong type, shape or offset"),
        (header({"a": entry(shape=[1] * 40)}, b"1234"), "wrong type, shape or offset"),
        (header({"a": entry(shape=[2**40])}, b"1234"), "cannot take 4 bytes"),
        (header({"a": entry(shape=[2**50], offsets=[0, 2**52])}, b"1234"), "wrong type, shape or offset"),
        (header({"a": entry(offsets=[4, 8])}, b"12345678"), "does not begin where the one before ends"),
        (header({"a": entry(), "b": entry()}, b"1234"), "does not begin where the one before ends"),
        (header({"a": entry()}, b"123"), "holds 3 bytes of data instead of 4"),
        (header({"a": entry(offsets=[4, 0])}, b"1234"), "cannot take -4 bytes"),
        (header({"__metadata__": 3}), "metadata"),
        (header({"__metadata__": {"a": 3}}), "metadata"),
        (header({"__metadata__": {"dist_train.structure": "3"}}), "does not have the recorded SHA-256"),
    ],
)
def test_hostile_files(file: io.BytesIO, message: str) -> None:
    file.seek(0)
    with pytest.raises(DamagedFileError, match=message):
        load(file)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ("{", "unreadable structure"),
        ("[" * 5000, "unreadable structure"),
        ("[" * 400 + "]" * 400, "nested deeper"),
        ('{"$tensor":"b","dtype":"float32","shape":[1]}', "does not hold the tensor 'b'"),
        ('{"$tensor":"a","dtype":"float64","shape":[1]}', "does not hold the tensor 'a'"),
        ('{"$tensor":"a","dtype":"float32","shape":[2]}', "does not hold the tensor 'a'"),
        ('{"$tensor":["a"],"dtype":"float32","shape":[1]}', "unreadable .tensor"),
        ('{"$tensor":"a"}', "unreadable .tensor"),
        ('{"$float":[]}', "unreadable .float"),
        ('{"$tuple":3}', "unreadable .tuple"),
        ('{"$dict":[[1]]}', "unreadable .dict"),
        ('{"$dict":[[{"$tensor":"a","dtype":"float32","shape":[1]},1]]}', "unreadable .dict"),
        ('{"$reduce":["os.system","id"]}', "unreadable .reduce"),
    ],
)
def test_hostile_structures(structure: str, message: str) -> None:
    from dist_train.checkpoint import serialization

    arrays = {"a": np.zeros(1, np.float32)}
    metadata = {serialization.STRUCTURE: structure, serialization.DIGEST: serialization._digest(structure, arrays)}
    data = b"".join(bytes(chunk) for chunk in tensor_file.stream(arrays, metadata))
    with pytest.raises(DamagedFileError, match=message):
        load(io.BytesIO(data))


def test_a_type_numpy_lacks_is_named() -> None:
    file = header({"a": entry("BF16", [2])}, b"1234")
    with pytest.raises(TypeError, match="'a' has type BF16, which NumPy does not have; convert it to F32"):
        load(file)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02}q", b"\x80\x05\x95"])
def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(start + b"x" * 100)
    for f in (tmp_path / "model.pt", io.BytesIO(start + b"x" * 100)):
        with pytest.raises(ValueError, match=r"is a pickle, .*safetensors.torch.save_file"):
            load(f)


def test_arguments_known_from_torch(tmp_path: Path) -> None:
    save({"x": Tensor(np.zeros(2))}, tmp_path / "x")
    assert load(tmp_path / "x", "cpu", weights_only=True)["x"].shape == (2,)
    with pytest.raises(ValueError, match="files hold data, never code"):
        load(tmp_path / "x", weights_only=False)
    with pytest.raises(TypeError, match="map_location must be a device or its name, not dict"):
        load(tmp_path / "x", {"cuda:0": "cpu"})

    class Movable(Tensor):
        device = "cpu"

        def to(self, device: str) -> Movable:
            self.device = device
            return self

    assert load(tmp_path / "x", "cuda:1", tensor=Movable)["x"].device == "cuda:1"


# --- other tools


def test_the_safetensors_library_reads_a_state_dict(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    state = {name: np.arange(6).astype(name).reshape(2, 3) for name in DTYPES} | {"s": np.array(1.0), "e": np.zeros((0, 2))}
    save(state, tmp_path / "x")
    found = library.load_file(tmp_path / "x")
    assert found.keys() == state.keys()
    assert all(same(state[name], found[name]) for name in state)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), ARRAYS, max_size=4))
def test_reads_what_the_safetensors_library_writes(state: dict[str, np.ndarray]) -> None:
    library = pytest.importorskip("safetensors.numpy")
    state = {name: np.asarray(array, order="C") for name, array in state.items()}
    found = load(io.BytesIO(library.save(state)))
    assert found.keys() == state.keys()
    assert all(same(state[name], found[name]) for name in state)


def test_exchange_with_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    save(model.state_dict(), tmp_path / "ours")
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    other.load_state_dict(library.load_file(tmp_path / "ours"))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    library.save_file(model.state_dict(), tmp_path / "theirs")
    found = load(tmp_path / "theirs", tensor=torch.from_numpy)
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())
    with pytest.raises(TypeError, match=r"obj\['x'\] of type torch.bfloat16 cannot become a NumPy array; convert"):
        save({"x": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "x")
