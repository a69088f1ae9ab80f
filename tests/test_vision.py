"""Image data sets from their published files, downloads from a local server, and transforms."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from dist_train.autograd.tensor import Tensor
from dist_train.utils.data import DataLoader, default_collate, random_split
from dist_train.vision import datasets, transforms
from dist_train.vision.datasets import CIFAR10, MNIST, FashionMNIST
from dist_train.vision.transforms import Compose, Lambda, Normalize, ToTensor

NAMES = list(MNIST.checksums)


def idx(array, magic=None):
    header = struct.pack(f">{1 + array.ndim}I", magic or (8 << 8 | array.ndim), *array.shape)
    return header + array.astype(np.uint8).tobytes()


def small(count, size=(28, 28), seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *size), dtype=np.uint8), random.integers(0, 10, count, dtype=np.uint8)


def write_mnist(folder, packed=True, train=30, test=10):
    """The four files; returns {name: content} as published."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dict(zip(NAMES, [*small(train), *small(test, seed=1)]))
    files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in arrays.items()}
    for name, content in files.items():
        path = folder / (name if packed else name.removesuffix(".gz"))
        path.write_bytes(content if packed else gzip.decompress(content))
    return files


def singly(samples):
    return default_collate(samples)


def same(batch, other):
    return all(a.array.tobytes() == b.array.tobytes() and a.dtype == b.dtype and a.shape == b.shape for a, b in zip(batch, other))


# reading


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_mnist_is_found_and_read(tmp_path, place, packed, train):
    write_mnist(tmp_path / place, packed)
    dataset = MNIST(tmp_path, train)
    images, labels = small(30) if train else small(10, seed=1)
    assert np.array_equal(dataset.data.numpy(), images) and dataset.data.dtype == np.uint8
    assert np.array_equal(dataset.targets.numpy(), labels) and dataset.targets.dtype == np.int64
    image, label = dataset[3]
    assert image.shape == (28, 28) and image.dtype == np.uint8 and label == labels[3] and type(label) is int
    assert len(dataset) == len(images) and len(dataset.classes) == 10 and dataset.class_to_idx["3 - three"] == 3
    assert repr(dataset).startswith(f"Dataset MNIST\n    Number of datapoints: {len(images)}\n")


def test_fashion_mnist_prefers_its_own_folder(tmp_path):
    write_mnist(tmp_path)
    write_mnist(tmp_path / "FashionMNIST/raw", train=12)
    assert len(FashionMNIST(str(tmp_path))) == 12 and len(MNIST(tmp_path)) == 30
    assert FashionMNIST.classes[9] == "Ankle boot"


def test_a_sample_is_a_copy(tmp_path):
    write_mnist(tmp_path)
    dataset = MNIST(tmp_path)
    dataset[0][0][:] = 0
    assert dataset.data.numpy()[0].any()


def test_replaced_data_is_used(tmp_path):
    write_mnist(tmp_path)
    dataset = MNIST(tmp_path)
    dataset.data, dataset.targets = dataset.data.numpy()[::3], dataset.targets.numpy()[::3]
    for arguments in ({}, {"collate_fn": singly}):
        images, labels = next(iter(DataLoader(dataset, 100, **arguments)))
        assert np.array_equal(images.array, small(30)[0][::3]) and np.array_equal(labels.array, small(30)[1][::3])


DAMAGES = [
    ("images", lambda data: data[:1000], r"holds \d+$|promises 23520 bytes of data, it holds 984"),
    ("images", lambda data: data + b"x", "promises 23520 bytes of data, it holds more"),
    ("images", lambda data: b"\0\0\x08\x01" + data[4:], "magic number is 2049, not 2051"),
    ("images", lambda data: data[:7], "ends within its header, after 7 bytes"),
    ("images", lambda data: b"", "ends within its header, after 0 bytes"),
    ("images", lambda data: data[:4] + b"\xff" * 12 + data[16:], "more than a file of its size can hold"),
    ("images", lambda data: idx(small(29)[0]), "holds 29 images but .* 30 labels"),
    ("labels", lambda data: data[:-1] + b"\x0a", "a label 10, there are 10 classes"),
    ("labels", lambda data: idx(np.zeros((30, 1))), "magic number is 2050, not 2049"),
]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("which", "damage", "message"), DAMAGES)
def test_a_damaged_file_is_named(tmp_path, packed, which, damage, message):
    write_mnist(tmp_path, packed)
    path = next(tmp_path.glob(f"train-{which}*"))
    content = damage(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(RuntimeError, match=message) as caught:
        MNIST(tmp_path)
    assert str(path) in str(caught.value) and "again" in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flip", "no gzip", "directory"])
def test_a_damaged_gzip_is_named(tmp_path, damage):
    write_mnist(tmp_path)
    path = tmp_path / f"{NAMES[0]}.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes({"cut": bytes(content[:-20]), "flip": bytes(content)}.get(damage, b"<html>404</html>"))
    if damage == "directory":
        path.unlink()
        path.mkdir()
    with pytest.raises(RuntimeError, match=f"{NAMES[0]}.*download=True"):
        MNIST(tmp_path)


def test_missing_files_say_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match=r"neither train-images-idx3-ubyte nor .*MNIST/raw.*download=True"):
        MNIST(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_no_damage(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / f"{NAMES[0]}.gz").chmod(0)
    with pytest.raises(PermissionError, match=NAMES[0]):
        MNIST(tmp_path)


# CIFAR10


@pytest.fixture
def small_cifar(monkeypatch):
    monkeypatch.setattr(CIFAR10, "records", 4)
    random = np.random.default_rng(0)
    names = CIFAR10._train_files + CIFAR10._test_files
    return {name: np.concatenate([random.integers(0, 10, (4, 1)), random.integers(0, 256, (4, 3072))], 1) for name in names}


def write_cifar(folder, records):
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in records.items():
        (folder / name).write_bytes(values.astype(np.uint8).tobytes())


@pytest.mark.parametrize("place", [".", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, small_cifar, place):
    write_cifar(tmp_path / place, small_cifar)
    train, test = CIFAR10(tmp_path), CIFAR10(tmp_path, train=False)
    assert train.data.shape == (20, 32, 32, 3) and test.data.shape == (4, 32, 32, 3)
    record = small_cifar["data_batch_2.bin"][1]
    assert train.targets[5] == record[0] and train[5][1] == record[0]
    assert np.array_equal(train[5][0], record[1:].reshape(3, 32, 32).transpose(1, 2, 0))
    transform = Compose([ToTensor(), Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))])
    dataset = CIFAR10(tmp_path, transform=transform)
    assert same(next(iter(DataLoader(dataset, 20))), next(iter(DataLoader(dataset, 20, collate_fn=singly))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"test_batch.bin is damaged: it has 12291 bytes, not 12292"),
        (lambda path: path.write_bytes(b"\x0b" + path.read_bytes()[1:]), "a label 11, there are 10"),
        (lambda path: path.unlink(), "test_batch.bin is neither .*download=True.*pickle"),
    ],
)
def test_damaged_cifar10(tmp_path, small_cifar, change, message):
    write_cifar(tmp_path, small_cifar)
    change(tmp_path / "test_batch.bin")
    with pytest.raises(RuntimeError, match=message):
        CIFAR10(tmp_path, train=False)


# downloading


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {path: content}; counts the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests, self.cut = {}, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: len(content or b"") - self.server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """MNIST as the local server publishes it, below /good/."""
    files = write_mnist(tmp_path / "published")
    server.files = {f"/good/{name}": content for name, content in files.items()}
    sums = {name: f"sha256:{hashlib.sha256(files[f'{name}.gz']).hexdigest()}" for name in NAMES}
    monkeypatch.setattr(MNIST, "checksums", sums)
    monkeypatch.setattr(MNIST, "mirrors", [server.url + "good/"])
    return files


def test_download(server, published, tmp_path):
    root = tmp_path / "new"
    assert len(MNIST(root, download=True)) == 30
    assert {path.name: path.read_bytes() for path in (root / "MNIST/raw").iterdir()} == published
    assert len(MNIST(root, train=False, download=True)) == 10
    assert len(server.requests) == 4


def test_download_fetches_only_what_is_missing(server, published, tmp_path):
    write_mnist(tmp_path / "new", packed=False)
    (tmp_path / "new" / NAMES[1]).unlink()
    assert len(MNIST(tmp_path / "new", download=True)) == 30
    assert server.requests == [f"/good/{NAMES[1]}.gz"]


def test_download_tries_the_next_mirror(server, published, tmp_path, monkeypatch):
    server.files |= {f"/bad/{name}": b"<html>" for name in published}
    monkeypatch.setattr(MNIST, "mirrors", [server.url + "none/", server.url + "bad/", server.url + "good/"])
    assert len(MNIST(tmp_path / "new", download=True)) == 30


@pytest.mark.parametrize("fault", ["missing", "other content", "cut", "no server"])
def test_a_failed_download_says_why_and_leaves_nothing(server, published, tmp_path, monkeypatch, fault):
    if fault == "missing":
        server.files = {}
    elif fault == "other content":
        server.files = dict.fromkeys(server.files, b"something else")
    elif fault == "cut":
        server.cut = 5
    else:
        monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    why = {"missing": "404", "other content": "14 bytes .* sha256", "cut": "sha256", "no server": "refused"}[fault]
    with pytest.raises(RuntimeError, match=rf"(?s)could not download {NAMES[0]}\.gz.*MNIST/raw by hand.*{why}"):
        MNIST(tmp_path / "new", download=True)
    assert list((tmp_path / "new/MNIST/raw").iterdir()) == []


def test_many_processes_download_once(server, published, tmp_path):
    program = f"""
import sys
from dist_train.vision.datasets import MNIST
MNIST.mirrors, MNIST.checksums = {MNIST.mirrors!r}, {MNIST.checksums!r}
print(len(MNIST({str(tmp_path / "new")!r}, download=True)))
"""
    runs = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [run.communicate(timeout=60)[0] for run in runs] == ["30\n"] * 3
    assert sorted(server.requests) == sorted(server.files)


def test_cifar10_download_unpacks_the_known_files_alone(server, small_cifar, tmp_path, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        contents = {name: values.astype(np.uint8).tobytes() for name, values in small_cifar.items()}
        for name, content in (contents | {"../../escaped": b"!"}).items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.files = {f"/{CIFAR10.archive}": packed.getvalue()}
    monkeypatch.setattr(CIFAR10, "mirrors", [server.url])
    monkeypatch.setattr(CIFAR10, "checksum", f"md5:{hashlib.md5(packed.getvalue()).hexdigest()}")
    root = tmp_path / "deep" / "root"
    assert len(CIFAR10(root, download=True)) == 20 and len(CIFAR10(root, train=False, download=True)) == 4
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-bin"]
    assert not list(tmp_path.rglob("escaped")) and len(server.requests) == 1


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, CIFAR10])
def test_mirrors_are_https_and_end_in_a_slash(kind):
    assert kind.mirrors and all(url.startswith("https://") and url.endswith("/") for url in kind.mirrors)


# transforms

NORMALISED = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])


@pytest.mark.parametrize("transform", [None, ToTensor(), NORMALISED, Compose([NORMALISED])], ids=repr)
def test_whole_batches_equal_single_samples_bit_for_bit(tmp_path, transform):
    write_mnist(tmp_path)
    dataset = MNIST(tmp_path, transform=transform)
    assert dataset.batch_at(np.arange(3)) is not NotImplemented
    for source in (dataset, random_split(dataset, [20, 10])[0]):
        whole, one = DataLoader(source, 7, shuffle=True), DataLoader(source, 7, shuffle=True, collate_fn=singly)
        assert all(same(a, b) for a, b in zip(whole, one, strict=True))


@pytest.mark.parametrize("kind", [list, Tensor, np.asarray, lambda y: y.astype(np.int32), lambda y: np.repeat(y, 2)[::2]])
def test_targets_of_any_kind(tmp_path, kind):
    write_mnist(tmp_path)
    dataset = MNIST(tmp_path, transform=NORMALISED)
    expected = [sample[1] for sample in dataset]
    dataset.targets = kind(dataset.targets.array)
    found = [batch[1].array for batch in DataLoader(dataset, 7)]
    assert np.array_equal(np.concatenate(found), expected)
    assert {labels.dtype for labels in found} == {np.asarray(dataset.targets).dtype}


class Inverted(ToTensor):
    def __call__(self, image):
        return super().__call__(255 - image)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"transform": Lambda(lambda image: image.astype(np.float32))}, lambda x, y: (x.astype(np.float32), y)),
        ({"transform": Compose([ToTensor(), Lambda(lambda t: Tensor(t.array * 2))])}, lambda x, y: (x[:, None] / np.float32(255) * 2, y)),
        ({"transform": Inverted()}, lambda x, y: ((255 - x)[:, None] / np.float32(255), y)),
        ({"target_transform": lambda label: -label}, lambda x, y: (x, -y)),
    ],
)  # fmt: skip
def test_transforms_of_single_samples(tmp_path, arguments, expected):
    write_mnist(tmp_path)
    dataset = MNIST(tmp_path, **arguments)
    assert dataset.batch_at(np.arange(3)) is NotImplemented
    images, labels = small(30)
    batch = next(iter(DataLoader(dataset, 30)))
    for found, wanted in zip(batch, expected(images, labels.astype(np.int64))):
        assert np.array_equal(found.array, wanted) and found.dtype == wanted.dtype


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([[0, 51], [102, 255]], np.uint8), np.float32([[[0, 0.2], [0.4, 1]]])),
        (np.full((1, 2, 3), 255, np.uint8), np.ones((3, 1, 2), np.float32)),
        (np.array([[0.5]], np.float32), np.float32([[[0.5]]])),
        (np.array([[0.5]]), np.array([[[0.5]]])),
        (np.array([[True]]), np.float32([[[1]]])),
        (np.array([[7]], np.int64), np.array([[[7]]])),
    ],
)
def test_to_tensor(image, expected):
    found = ToTensor()(image).array
    assert np.array_equal(found, expected) and found.dtype == expected.dtype and found.flags.c_contiguous


def test_to_tensor_of_a_pil_image():
    image_module = pytest.importorskip("PIL.Image")
    pixels = small(1, (4, 5, 3))[0][0]
    assert np.array_equal(ToTensor()(image_module.fromarray(pixels)).array, ToTensor()(pixels).array)


def test_normalisation_is_torchs_arithmetic():
    torch = pytest.importorskip("torch")
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ours = NORMALISED(pixels).array
    theirs = torch.from_numpy(pixels)[None].to(torch.float32).div(255).sub(torch.tensor(0.1307)).div(torch.tensor(0.3081))
    assert np.array_equal(ours, theirs.numpy())


def test_normalize_per_channel_leaves_its_input_alone():
    image = Tensor(np.ones((3, 2, 2), np.float32))
    assert Normalize([1, 0, -1], [1, 2, 4])(image).array[:, 0, 0].tolist() == [0, 0.5, 0.5]
    assert Normalize(0.5, 0.5)(image).array.tolist() == np.ones((3, 2, 2)).tolist() == image.array.tolist()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ToTensor()(Tensor(np.zeros((2, 2)))), TypeError, "not Tensor"),
        (lambda: ToTensor()("image"), TypeError, "not str"),
        (lambda: ToTensor()(np.zeros(3)), ValueError, r"not \(3,\)"),
        (lambda: Normalize(0, 1)(Tensor(np.zeros((1, 2, 2), np.uint8))), TypeError, "uint8: put ToTensor"),
        (lambda: Normalize((0, 0), (1, 1))(Tensor(np.zeros((1, 2, 2)))), ValueError, r"2 channels .* not \(1, 2, 2\)"),
        (lambda: Normalize((0, 0), (1, 0)), ValueError, "std other than 0"),
        (lambda: Normalize((0, 0), (1,)), ValueError, "per channel"),
        (lambda: Lambda(3), TypeError, "not int"),
    ],
)
def test_transforms_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_repr():
    assert repr(NORMALISED) == "Compose(\n    ToTensor()\n    Normalize(mean=(0.1307,), std=(0.3081,))\n)"
    assert transforms.ToTensor is ToTensor and datasets.MNIST is MNIST


# the real files


@pytest.fixture(scope="module")
def real_mnist():
    folder = os.environ.get("DIST_TRAIN_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("DIST_TRAIN_DATA does not name a folder that holds mnist/")
    return Path(folder) / "mnist"


def test_real_files_have_the_published_checksums(real_mnist):
    for name, checksum in MNIST.checksums.items():
        content = (real_mnist / f"{name}.gz").read_bytes()
        assert checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_real_mnist(real_mnist):
    train, test = MNIST(real_mnist, transform=NORMALISED), MNIST(real_mnist, train=False, transform=NORMALISED)
    assert (len(train), len(test)) == (60000, 10000)
    assert np.bincount(train.targets.numpy()).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.targets.numpy()[:5].tolist() == [5, 0, 4, 1, 9]
    total = np.zeros(2)
    for images, labels in DataLoader(train, 1000, shuffle=True):
        assert images.shape == (1000, 1, 28, 28) and images.dtype == np.float32 and labels.dtype == np.int64
        total += images.array.sum(dtype=np.float64), np.square(images.array, dtype=np.float64).sum()
    mean, square = total / (60000 * 784)
    assert abs(mean) < 1e-3 and abs(square - 1) < 1e-3
    test_batch = next(iter(DataLoader(test, 500)))
    assert same(test_batch, next(iter(DataLoader(test, 500, collate_fn=singly))))
