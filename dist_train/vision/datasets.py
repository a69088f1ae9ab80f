"""MNIST, FashionMNIST and CIFAR10, read from their published files.

Samples are (image, target); without a transform the image is a uint8 NumPy array, (H, W) or (H, W, C), where
torchvision gives a PIL image. With `ToTensor` and `Normalize`, or no transform, whole batches are read at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..autograd.tensor import Tensor
from ..backend.reference.embedding import take_rows
from ..backend.reference.image import normalized_samples
from ..utils.data.dataset import Array, Dataset
from .download import alone, download, write_atomically
from .idx import read_idx
from .transforms import normalization, on_rows

Transform = Callable[[Any], Any]


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Images in one array `data` and their classes in `targets`; subclasses read both in `_load`.

    `root` is the folder of the files; `train` chooses between the two published parts; `transform` and
    `target_transform` are called with each image and target; `download` fetches the files where they are missing.
    Raises RuntimeError that names the file when one is missing or damaged.
    """

    mirrors: ClassVar[Sequence[str]] = ()
    classes: ClassVar[list[str]] = []

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        self.root = Path(root).expanduser()
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        if download:
            self.download()
        self.data, self.targets = self._load()

    def download(self) -> None:
        """Fetch the published files that are missing."""
        raise NotImplementedError

    def _load(self) -> tuple[Any, Any]:
        raise NotImplementedError

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = _array(self.data)[index].copy()
        target = int(_array(self.targets)[index])
        return (
            image if self.transform is None else self.transform(image),
            target if self.target_transform is None else self.target_transform(target),
        )

    @property
    def batch_at(self) -> Callable[[Array], Any]:
        """`Dataset.batch_at`; a property, so that what holds for all batches of an epoch is found out once, when a loader looks it up."""
        images, targets = _array(self.data), _array(self.targets)
        constants = None if self.target_transform is not None else normalization(self.transform, images)
        if constants is None:
            return self._batch_at
        gathered = targets if isinstance(targets, np.ndarray) and targets.dtype == np.int64 else None  # by the kernel

        def normalized(indices: Array) -> Any:
            batch, labels = normalized_samples(images, indices, *constants, gathered)
            return [Tensor(batch), Tensor(_rows(targets, indices) if labels is None else labels)]

        return normalized

    def _batch_at(self, indices: Array) -> Any:
        if self.target_transform is not None:
            return NotImplemented
        images, targets = _array(self.data), _array(self.targets)
        batch = take_rows(images, indices) if self.transform is None else on_rows(self.transform, images, indices)
        return NotImplemented if batch is NotImplemented else [Tensor(batch), Tensor(_rows(targets, indices))]

    def __repr__(self) -> str:
        lines = [f"Dataset {type(self).__name__}", f"Number of datapoints: {len(self)}", f"Root location: {self.root}"]
        lines += [f"Split: {'Train' if self.train else 'Test'}"]
        lines += [f"Transform: {self.transform}"] if self.transform is not None else []
        return "\n    ".join(lines)


class MNIST(ImageDataset):
    """Handwritten digits: 60000 training and 10000 test images of 28 x 28, `data` (N, 28, 28) uint8, `targets` int64.

    Reads the four idx files, gzipped or not, from `root` itself, `root`/raw or `root`/MNIST/raw (where `download`
    puts them). http://yann.lecun.com/exdb/mnist
    """

    folder: ClassVar[str] = "MNIST"
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }
    classes = [
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four",
        "5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine",
    ]  # fmt: skip

    @property
    def raw_folder(self) -> Path:
        return self.root / self.folder / "raw"

    def download(self) -> None:
        missing = [name for name in self.checksums if self._find(name) is None]
        if not missing:
            return
        with alone(self.raw_folder):
            for name in missing:
                if self._find(name) is None:  # another process may have been faster
                    download(f"{name}.gz", self.mirrors, self.checksums[name], self.raw_folder)

    def _load(self) -> tuple[Tensor, Tensor]:
        part = "train" if self.train else "t10k"
        images_path, labels_path = self._path(f"{part}-images-idx3-ubyte"), self._path(f"{part}-labels-idx1-ubyte")
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if len(images) != len(labels):
            raise RuntimeError(
                f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels: they do not belong "
                "together; get both again"
            )
        _check_labels(labels, len(self.classes), labels_path)
        return Tensor(images), Tensor(labels.astype(np.int64))

    def _path(self, name: str) -> Path:
        path = self._find(name)
        if path is None:
            places = ", ".join(str(place) for place in self._places())
            raise RuntimeError(
                f"{type(self).__name__}: found neither {name} nor {name}.gz in {places}; "
                "use download=True, or put the published files there"
            )
        return path

    def _find(self, name: str) -> Path | None:
        paths = (place / file for place in self._places() for file in (name, f"{name}.gz"))
        return next((path for path in paths if path.is_file()), None)

    def _places(self) -> tuple[Path, ...]:
        return self.raw_folder, self.root / "raw", self.root


class FashionMNIST(MNIST):
    """Articles of clothing in MNIST's format: 60000 training and 10000 test images of 28 x 28.

    https://github.com/zalandoresearch/fashion-mnist
    """

    folder = "FashionMNIST"
    mirrors = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )
    checksums = {
        "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    }
    classes = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]  # fmt: skip


class CIFAR10(ImageDataset):
    """Colour images of ten classes, 50000 to train and 10000 to test: `data` (N, 32, 32, 3) uint8, `targets` a list.

    Reads the published binary version (cifar-10-batches-bin) from `root` itself or `root`/cifar-10-batches-bin, never
    the Python version, which is a pickle and may execute code. https://www.cs.toronto.edu/~kriz/cifar.html
    """

    folder: ClassVar[str] = "cifar-10-batches-bin"
    mirrors = ("https://www.cs.toronto.edu/~kriz/",)
    archive: ClassVar[str] = "cifar-10-binary.tar.gz"
    checksum: ClassVar[str] = "md5:c32a1d4ab5d03f1284b67883e8d87530"
    records: ClassVar[int] = 10000  # in each file
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    _train_files = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    _test_files = ("test_batch.bin",)

    def download(self) -> None:
        with alone(self.root):
            if any(self._find(name) is None for name in self._train_files + self._test_files):
                archive = download(self.archive, self.mirrors, self.checksum, self.root)
                _unpack(archive, self.folder, self._train_files + self._test_files)
                archive.unlink()

    def _load(self) -> tuple[Array, list[int]]:
        files = self._train_files if self.train else self._test_files
        records = np.concatenate([self._read(self._path(name)) for name in files])  # (N, 1 + 3 * 32 * 32)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), records[:, 0].tolist()

    def _read(self, path: Path) -> Array:
        size, expected = path.stat().st_size, self.records * 3073
        if size != expected:
            raise RuntimeError(f"{path} is damaged: it has {size} bytes, not {expected}; delete it and get it again")
        records = np.fromfile(path, np.uint8).reshape(-1, 3073)
        _check_labels(records[:, 0], len(self.classes), path)
        return records

    def _path(self, name: str) -> Path:
        path = self._find(name)
        if path is None:
            raise RuntimeError(
                f"CIFAR10: {name} is neither in {self.root} nor in {self.root / self.folder}; use download=True, or "
                f"unpack the published {self.archive} there (the Python version, cifar-10-batches-py, is a pickle, "
                "which may execute code, and is not read)"
            )
        return path

    def _find(self, name: str) -> Path | None:
        paths = (self.root / name, self.root / self.folder / name)
        return next((path for path in paths if path.is_file()), None)


def _unpack(archive: Path, folder: str, names: Iterable[str]) -> None:
    """Write these files of a .tar.gz, and nothing else that may be in it, into `folder` beside it."""
    import tarfile

    (archive.parent / folder).mkdir(exist_ok=True)
    with tarfile.open(archive, "r:gz") as tar:
        for name in names:
            file = tar.extractfile(f"{folder}/{name}")
            if file is None:
                raise RuntimeError(f"{archive} holds no file {folder}/{name}")
            write_atomically(archive.parent / folder / name, iter([file.read()]))


def _check_labels(labels: Array, num_classes: int, path: Path) -> None:
    if len(labels) and labels.max() >= num_classes:
        raise RuntimeError(f"{path} is damaged: it has a label {labels.max()}, there are {num_classes} classes; delete it and get it again")


def _array(data: Any) -> Any:
    return data.array if isinstance(data, Tensor) else data


def _rows(targets: Any, indices: Array) -> Any:
    return np.array([targets[index] for index in indices.tolist()]) if isinstance(targets, list) else targets[indices]
