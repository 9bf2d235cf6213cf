"""CTAugment's operations in Pillow, two an image, with a weak augmentation before: the peer of `cargo bench --bench augment`.

    pip install numpy pillow && python3 benches/pillow.py
"""

import random
import statistics
import time

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

SIDE, IMAGES, SAMPLES = 32, 2000, 11


def enhance(kind):
    return lambda x, v: kind(x).enhance(0.1 + 1.9 * v)


def blend(change):
    return lambda x, v: Image.blend(x, change(x), v)


def cutout(x, v):
    half = (1 + int(v * SIDE * 0.499)) // 2
    cx, cy = random.randrange(SIDE), random.randrange(SIDE)
    x = x.copy()
    x.paste((127, 127, 127), (max(0, cx - half), max(0, cy - half), min(SIDE, cx + half), min(SIDE, cy + half)))
    return x


def affine(matrix):
    return lambda x, v: x.transform(x.size, Image.Transform.AFFINE, matrix((2 * v - 1) * 0.3))


OPERATIONS = [
    blend(ImageOps.autocontrast),
    blend(lambda x: x.filter(ImageFilter.BLUR)),
    enhance(ImageEnhance.Brightness),
    enhance(ImageEnhance.Color),
    enhance(ImageEnhance.Contrast),
    cutout,
    blend(ImageOps.equalize),
    blend(ImageOps.invert),
    lambda x, v: x,
    lambda x, v: ImageOps.posterize(x, 1 + int(v * 7.999)),
    lambda x, v: x.crop((0.25 * v, 0.25 * v, SIDE - 0.25 * v, SIDE - 0.25 * v)).resize(x.size, random.randrange(6)),
    lambda x, v: x.rotate(round((2 * v - 1) * 45)),
    enhance(ImageEnhance.Sharpness),
    affine(lambda s: (1, s, 0, 0, 1, 0)),
    affine(lambda s: (1, 0, 0, s, 1, 0)),
    blend(lambda x: x.filter(ImageFilter.SMOOTH)),
    lambda x, v: ImageOps.solarize(x, int(v * 255.999)),
    affine(lambda s: (1, 0, s, 0, 1, 0)),
    affine(lambda s: (1, 0, 0, 0, 1, s)),
]


def augment(image):
    x = image[:, ::-1] if random.random() < 0.5 else image
    dy, dx = random.randrange(9), random.randrange(9)
    x = np.pad(x, ((4, 4), (4, 4), (0, 0)), mode="reflect")[dy : dy + SIDE, dx : dx + SIDE]
    x = Image.fromarray(np.ascontiguousarray(x))
    for _ in range(2):
        x = random.choice(OPERATIONS)(x, random.random())
    return np.asarray(x, np.float32).transpose(2, 0, 1) * (2 / 255) - 1


def main():
    image = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    times = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        for _ in range(IMAGES):
            augment(image)
        times.append((time.perf_counter() - start) / IMAGES)
    print(f"weak, two operations of CTAugment, to input: {1e6 * statistics.median(times):.1f} microseconds")


if __name__ == "__main__":
    main()
