"""Three of the methods of `cifar10.toml` written anew in PyTorch and Pillow: are their accuracies ours, or those of the methods?

The same images, sizes and settings; the network, the augmentation, the losses and the choice of labels share no line with
Flywheel's. Prints the test accuracy of the averaged weights while it trains, and at the end the median of the last 20 as JSON.

    pip install numpy pillow torch
    python3 torch_methods.py fixmatch --data DIR --seed 1    # DIR has train/CLASS/* and test/CLASS/*, of which it takes the first 200
"""

import argparse
import copy
import json
import math
import random
import statistics
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import nn
from torch.nn import functional as F

sys.path.append(str(Path(__file__).resolve().parent.parent))
from torch_step import interleave

CLASSES, LABELS, EMA, GREY = 10, 250, 0.99, (127, 127, 127)


# Weak and strong augmentation.


def weak(image):
    """Half of the time mirrored, shifted by up to four pixels over a mirrored border."""
    if random.random() < 0.5:
        image = image[:, ::-1]
    y, x = random.randint(0, 8), random.randint(0, 8)
    return np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")[y : y + 32, x : x + 32]


def either(value):
    return random.choice([value, -value])


def affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


# RandAugment as in FixMatch's code, table 12 of the paper: an image and a magnitude from 0.1 to 0.9.
RAND_AUGMENT = [
    lambda image, m: image,
    lambda image, m: ImageOps.autocontrast(image),
    lambda image, m: ImageOps.equalize(image),
    lambda image, m: image.rotate(either(int(30 * m)), fillcolor=GREY),
    lambda image, m: ImageOps.solarize(image, 256 - int(256 * m)),
    lambda image, m: ImageOps.posterize(image, 4 - int(4 * m)),
    lambda image, m: ImageEnhance.Color(image).enhance(0.1 + 1.8 * m),
    lambda image, m: ImageEnhance.Contrast(image).enhance(0.1 + 1.8 * m),
    lambda image, m: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * m),
    lambda image, m: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * m),
    lambda image, m: affine(image, 1, either(0.3 * m), 0, 0, 1, 0),
    lambda image, m: affine(image, 1, 0, 0, either(0.3 * m), 1, 0),
    lambda image, m: affine(image, 1, 0, either(10 * m), 0, 1, 0),
    lambda image, m: affine(image, 1, 0, 0, 0, 1, either(10 * m)),
]


def strong(image):
    """Two operations, each applied half of the time, then a square of half the side erased."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    for _ in range(2):
        operation, magnitude = random.choice(RAND_AUGMENT), random.randint(1, 9) / 10
        if random.random() < 0.5:
            picture = operation(picture, magnitude)
    image = np.array(picture)
    y, x = random.randrange(32), random.randrange(32)
    image[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = GREY
    return image


def tensor(images):
    return torch.from_numpy(np.stack(images).astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


# WRN-10-1 with a stem of stride 2.


def norm(channels):
    return nn.BatchNorm2d(channels, momentum=0.05, eps=1e-3)


def convolution(inputs, outputs, kernel, stride=1):
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (kernel * kernel * outputs)))
    return layer


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, first):
        super().__init__()
        self.first = first
        self.norm1, self.conv1 = norm(inputs), convolution(inputs, outputs, 3, stride)
        self.norm2, self.conv2 = norm(outputs), convolution(outputs, outputs, 3)
        self.shortcut = nn.Identity() if first else convolution(inputs, outputs, 1, stride)

    def forward(self, x):
        h = F.leaky_relu(self.norm1(x), 0.1)
        x = h if self.first else x
        return self.shortcut(x) + self.conv2(F.leaky_relu(self.norm2(self.conv1(h)), 0.1))


def network():
    blocks = [Block(16, 16, 1, True), Block(16, 32, 2, False), Block(32, 64, 2, False)]
    head = [norm(64), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)]
    net = nn.Sequential(convolution(3, 16, 3, 2), *blocks, *head)
    nn.init.xavier_normal_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return net


def record(net, rate):
    """How far batch norm's running statistics move with every forward pass from here on."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = rate


# The methods: the loss of a step.


def supervised(net, draw, _):
    images, labels = draw.labeled()
    return F.cross_entropy(net(tensor([weak(image) for image in images])), labels)


def fixmatch(net, draw, _):
    """FixMatch, algorithm 1, with seven unlabeled images to a labeled one."""
    (images, labels), unlabeled = draw.labeled(), draw.unlabeled(7)
    views = [weak(image) for image in [*images, *unlabeled]] + [strong(weak(image)) for image in unlabeled]
    labeled, anchor, other = net(tensor(views)).split([len(images), len(unlabeled), len(unlabeled)])
    confidence, guessed = anchor.detach().softmax(1).max(1)
    sure = (confidence >= 0.95).float()
    return F.cross_entropy(labeled, labels) + (sure * F.cross_entropy(other, guessed, reduction="none")).mean()


def mixmatch(net, draw, step):
    """MixMatch, algorithm 1 and equations 2 to 5, with its code's interleaved batches and ramp."""
    (images, labels), unlabeled = draw.labeled(), draw.unlabeled(1)
    batches = [tensor([weak(image) for image in batch]) for batch in (images, unlabeled, unlabeled)]
    with torch.no_grad():
        record(net, 0.0)
        guessed = sum(net(batch).softmax(1) for batch in batches[1:]) ** 2
        guessed = guessed / guessed.sum(1, keepdim=True)
    inputs, targets = torch.cat(batches), torch.cat([F.one_hot(labels, CLASSES).float(), guessed, guessed])
    share = torch.distributions.Beta(0.75, 0.75).sample((len(inputs),))
    share, other = torch.maximum(share, 1 - share), torch.randperm(len(inputs))
    inputs = inputs[other].lerp(inputs, share[:, None, None, None])
    targets = targets[other].lerp(targets, share[:, None])
    # Each of the three batches gets a third of the labeled rows; batch norm remembers the first one.
    size = len(labels)
    order = torch.tensor(interleave(3, size))
    first, *rest = inputs[order].split(size)
    record(net, 0.05)
    logits = [net(first)]
    record(net, 0.0)
    logits = torch.cat(logits + [net(batch) for batch in rest])[order]
    labeled = -(targets[:size] * logits[:size].log_softmax(1)).sum(1).mean()
    unlabeled = ((targets[size:] - logits[size:].softmax(1)) ** 2).mean()
    return labeled + 75 * min(1, step / 16384) * unlabeled


METHODS = {"supervised": supervised, "mixmatch": mixmatch, "fixmatch": fixmatch}


# Training.


def endless(indices):
    """Draws without replacement, over and over."""
    while True:
        yield from np.random.permutation(indices).tolist()


class Draw:
    """Draws the images of a step."""

    def __init__(self, images, labels, chosen, batch):
        self.images, self.labels, self.batch = images, torch.from_numpy(labels), batch
        self.chosen, self.all = endless(chosen), endless(len(images))

    def labeled(self):
        drawn = list(islice(self.chosen, self.batch))
        return self.images[drawn], self.labels[drawn]

    def unlabeled(self, ratio):
        return self.images[list(islice(self.all, ratio * self.batch))]


def load(folder, each):
    """The first images by name of each class."""
    images, labels = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for path in sorted((folder / name).iterdir())[:each]:
            images.append(np.array(Image.open(path).convert("RGB")))
            labels.append(label)
    return np.stack(images), np.array(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--data", type=Path, default=Path("."))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    images, labels = load(args.data / "train", 5000)
    test, truth = load(args.data / "test", 200)
    each = LABELS // CLASSES
    chosen = np.concatenate([np.random.choice(np.flatnonzero(labels == c), each, False) for c in range(CLASSES)])
    draw, test = Draw(images, labels, chosen, args.batch), tensor(test)

    net = network()
    average = copy.deepcopy(net)
    kernels = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() == 1]
    if args.method == "fixmatch":
        groups = [{"params": kernels, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=0.03, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: math.cos(7 * math.pi * i / 16 / args.steps))
    else:
        groups = [{"params": kernels, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.002)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1.0)

    accuracies = []
    for step in range(args.steps):
        net.train()
        loss = METHODS[args.method](net, draw, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for mean, weights in zip(average.parameters(), net.parameters()):
                mean.lerp_(weights, 1 - EMA)
            for mean, statistic in zip(average.buffers(), net.buffers()):
                mean.copy_(statistic)
            if (step + 1) % max(1, args.steps // 80) == 0:
                average.eval()
                guessed = torch.cat([average(part).argmax(1) for part in test.split(500)])
                accuracies.append((guessed.numpy() == truth).mean())
                print(f"step {step + 1}: loss {loss.item():.3f}, test {100 * accuracies[-1]:.1f} %", flush=True)
    median = statistics.median(accuracies[-20:])
    print(json.dumps({"torch": torch.__version__, **vars(args), "data": str(args.data), "median_of_last_20": median}))


if __name__ == "__main__":
    main()
