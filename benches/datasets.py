"""Data sets in their official formats, written by numpy, scipy, pickle, Pillow and tarfile, and read by them: the peer of
`cargo bench --bench loaders`, which calls it.

    pip install numpy scipy pillow
    python3 benches/datasets.py write FOLDER          # waves and a little noise
    python3 benches/datasets.py read FOLDER/FORMAT    # into rows, columns, channels; prints images a second
"""

import io
import pathlib
import pickle
import statistics
import sys
import tarfile
import time

import numpy as np
import scipy.io
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "trainer/fixtures"))
from make_datasets import python2

IMAGES, STL_IMAGES, SAMPLES = 2000, 400, 5
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
random = np.random.default_rng(1)


def smooth(count, side):
    """`[image, row, column, channel]`: a few waves and a little noise, so that PNG packs it as it packs a picture."""
    grid = np.linspace(0, 6, side)
    phase = random.uniform(0, 6, (count, 1, 1, 3))
    waves = np.sin(grid[:, None, None] + phase) + np.cos(grid[None, :, None] * 2 + phase)
    return np.clip(128 + 50 * waves + random.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write(folder):
    images, labels = smooth(IMAGES, 32), np.arange(IMAGES) % 10
    parts = np.array_split(np.arange(IMAGES), 5)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]

    binary, python = folder / "cifar10-binary", folder / "cifar10-python"
    binary.mkdir(parents=True)
    python.mkdir()
    (binary / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n")
    (python / "batches.meta").write_bytes(python2({b"label_names": [c.encode() for c in CLASSES]}))
    for name, rows in zip(names, parts + parts[:1]):
        records = np.concatenate([labels[rows, None].astype(np.uint8), planes(images[rows])], 1)
        (binary / f"{name}.bin").write_bytes(records.tobytes())
        batch = {b"data": planes(images[rows]), b"labels": labels[rows].tolist()}
        (python / name).write_bytes(python2(batch))

    svhn = folder / "svhn"
    svhn.mkdir()
    digits = (labels.astype(np.uint8) + 1)[:, None]
    for name, rows in [("train", slice(None)), ("test", slice(20))]:
        content = {"X": images[rows].transpose(1, 2, 3, 0), "y": digits[rows]}
        scipy.io.savemat(svhn / f"{name}_32x32.mat", content, do_compression=True)

    stl = folder / "stl10"
    stl.mkdir()
    large = smooth(STL_IMAGES, 96).transpose(0, 3, 2, 1)
    classes = (np.arange(STL_IMAGES) % 10 + 1).astype(np.uint8)
    (stl / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    (stl / "fold_indices.txt").write_text("\n".join(" ".join(map(str, range(100))) for _ in range(10)) + "\n")
    for name, rows in [("train", slice(None)), ("test", slice(20))]:
        (stl / f"{name}_X.bin").write_bytes(large[rows].tobytes())
        (stl / f"{name}_y.bin").write_bytes(classes[rows].tobytes())
    (stl / "unlabeled_X.bin").write_bytes(large[:20].tobytes())

    with tarfile.open(folder / "images.tar", "w") as tar:
        for index, image in enumerate(images):
            name, data = f"{CLASSES[index % 10]}/{index:05}.png", png(image)
            path = folder / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def cifar_binary(folder):
    records = [np.fromfile(path, np.uint8).reshape(-1, 3073) for path in sorted(folder.glob("*_batch*.bin"))]
    return np.ascontiguousarray(np.concatenate(records)[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def cifar_python(folder):
    batches = [pickle.loads(path.read_bytes(), encoding="bytes") for path in sorted(folder.glob("*_batch*"))]
    data = np.concatenate([batch[b"data"] for batch in batches])
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def svhn(folder):
    files = [scipy.io.loadmat(path)["X"] for path in sorted(folder.glob("*.mat"))]
    return np.ascontiguousarray(np.concatenate(files, 3).transpose(3, 0, 1, 2))


def stl10(folder):
    files = [np.fromfile(path, np.uint8).reshape(-1, 3, 96, 96) for path in sorted(folder.glob("*_X.bin"))]
    return np.ascontiguousarray(np.concatenate(files).transpose(0, 3, 2, 1))


def images_in(folder):
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("*.png"))]


def images_of(archive):
    with tarfile.open(archive) as tar:
        return [np.asarray(Image.open(tar.extractfile(member)).convert("RGB")) for member in tar]


READERS = {
    "cifar10-binary": cifar_binary,
    "cifar10-python": cifar_python,
    "svhn": svhn,
    "stl10": stl10,
    "folder": images_in,
    "images.tar": images_of,
}


def images_per_second(read, path):
    def sample():
        start = time.perf_counter()
        count = len(read(path))
        return count / (time.perf_counter() - start)

    return statistics.median(sample() for _ in range(SAMPLES))


def main():
    _, command, folder = sys.argv
    folder = pathlib.Path(folder)
    if command == "write":
        write(folder)
    else:
        print(images_per_second(READERS[folder.name], folder))


if __name__ == "__main__":
    main()
