"""The same training steps in PyTorch: what people would use instead.

Prints one JSON line: images a second (every view counted, as `flywheel train` counts them) and milliseconds a step, medians
after a warm-up. The images are random and already on the device: augmentation is not part of it.

    python3 torch_step.py --method supervised --network 10-1 --batch 256
    python3 torch_step.py --method remixmatch --network 28-2 --views 8 --device cuda --bf16 --channels-last --compile
"""

import argparse
import copy
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class Norm(nn.Module):
    """Batch norm of `groups` groups of equal size by their own statistics; then leaky ReLU.

    Either each group by PyTorch's own operation, or all of them in one pass by several: which is faster depends on the machine.
    """

    one_pass = False

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x, groups):
        if not self.training:
            y = F.batch_norm(x, self.mean, self.var, self.weight, self.bias, False, 0.0, 1e-3)
        elif not self.one_pass or groups == 1:
            # The running statistics follow the last mixed batch.
            running = {max(groups - 3, 0): (self.mean, self.var)}
            parts = [
                F.batch_norm(part, *running.get(group, (None, None)), self.weight, self.bias, True, 0.001, 1e-3)
                for group, part in enumerate(x.chunk(groups))
            ]
            y = torch.cat(parts) if groups > 1 else parts[0]
        else:
            n, c, h, w = x.shape
            z = x.float().reshape(groups, n // groups, c, h, w)
            var, mean = torch.var_mean(z, dim=(1, 3, 4), keepdim=True, correction=0)
            z = (z - mean) * torch.rsqrt(var + 1e-3)
            y = (z.reshape(n, c, h, w) * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)
            with torch.no_grad():
                self.mean.lerp_(mean[-3].flatten(), 0.001)
                self.var.lerp_(var[-3].flatten(), 0.001)
        return F.leaky_relu(y, 0.1)


def convolution(inputs, outputs, kernel, stride):
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0)
    nn.init.normal_(layer.weight, 0.0, (2.0 / (kernel * kernel * outputs)) ** 0.5)
    nn.init.zeros_(layer.bias)
    return layer


def same(layer, x):
    """"SAME" padding: with a stride of 2 over an even side, one pixel at the end."""
    return layer(F.pad(x, (0, 1, 0, 1)) if layer.stride[0] == 2 and layer.kernel_size[0] == 3 else x)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, before):
        super().__init__()
        self.norm1, self.norm2 = Norm(inputs), Norm(outputs)
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.conv2 = convolution(outputs, outputs, 3, 1)
        self.shortcut = convolution(inputs, outputs, 1, stride) if inputs != outputs else None
        self.before = before

    def forward(self, x, groups):
        h = self.norm1(x, groups)
        source = h if self.before else x
        h = self.conv2(self.norm2(same(self.conv1, h), groups))
        return h + (source if self.shortcut is None else self.shortcut(source))


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes=10):
        super().__init__()
        self.stem = convolution(3, 16, 3, 1)
        blocks, inputs = [], 16
        for scale in range(3):
            for i in range((depth - 4) // 6):
                outputs = (16 * width) << scale
                blocks.append(Block(inputs, outputs, 2 if scale and not i else 1, not scale and not i))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.norm = Norm(inputs)
        self.classifier, self.rotation = nn.Linear(inputs, classes), nn.Linear(inputs, 4)

    def forward(self, x, groups=1):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, groups)
        return self.norm(x, groups).mean((2, 3))


def soft_cross_entropy(logits, targets):
    return -(targets * F.log_softmax(logits.float(), 1)).sum(1).mean()


def supervised(network, images, args, *_):
    targets = F.one_hot(torch.arange(len(images), device=images.device) % 10, 10).float()
    return soft_cross_entropy(network.classifier(network(images)), targets)


def remixmatch(network, images, args, order, weight, partner):
    """Anchor, alignment, sharpening, mixup, interleaved groups, four losses; as ReMixMatch's original code."""
    size, views = args.batch, args.views
    with torch.no_grad():
        probs = network.classifier(network(images[size : 2 * size])).float().softmax(1)
        aligned = probs * (0.1 + 1e-6) / (probs.mean(0, keepdim=True) + 1e-6)
        guessed = (aligned / aligned.sum(1, keepdim=True)) ** 2
        guessed = guessed / guessed.sum(1, keepdim=True)
        labels = F.one_hot(torch.arange(size, device=images.device) % 10, 10).float()
        targets = torch.cat([labels] + [guessed] * (views + 1))
        rows = len(targets)
        pool = images[:rows]
        mixed = pool[partner].lerp(pool, weight[:, None, None, None])[order]
        targets = targets[partner].lerp(targets, weight[:, None])[order]
        strong = images[2 * size : 3 * size]
        quarters = strong.chunk(4)
        turns = [0, 2, 1, 3]
        rotated = torch.cat([torch.rot90(quarter, turn, (2, 3)) for quarter, turn in zip(quarters, turns)])
        everything = torch.cat([mixed, strong, rotated])
        if args.channels_last:
            everything = everything.contiguous(memory_format=torch.channels_last)
    features = network(everything, views + 4)
    logits = network.classifier(features[: rows + size])
    # Weights in place of a selection, whose length the processor would wait for.
    labeled = (order < size).float()
    losses = -(targets * F.log_softmax(logits[:rows].float(), 1)).sum(1)
    turned = torch.arange(size, device=images.device) * 4 // size
    return (
        (losses * labeled).sum() / size
        + 1.5 * (losses * (1 - labeled)).sum() / (rows - size)
        + 0.5 * soft_cross_entropy(logits[rows:], guessed)
        + 0.5 * F.cross_entropy(network.rotation(features[rows + size :]).float(), turned)
    )


def interleave(batches, size):
    order = list(range(batches * size))
    base, larger = divmod(size, batches)
    start = 0
    for batch in range(batches):
        end = start + base + (batch >= batches - larger)
        for row in range(start, end) if batch else ():
            order[row], order[batch * size + row] = order[batch * size + row], order[row]
        start = end
    return order


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["supervised", "remixmatch"], default="supervised")
    parser.add_argument("--network", default="28-2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--one-pass", action="store_true", help="normalise all groups in one pass")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    Norm.one_pass = args.one_pass
    device = torch.device(args.device)
    network = WideResNet(*map(int, args.network.split("-"))).to(device)
    trained = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network.rotation.parameters())
    assert args.network != "28-2" or trained == 1_469_642, trained
    if args.channels_last:
        network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    step = {"supervised": supervised, "remixmatch": remixmatch}[args.method]
    rows = args.batch * (1 if args.method == "supervised" else args.views + 2)
    images = torch.randn(rows, 3, 32, 32, device=device)
    if args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    order = torch.tensor(interleave(args.views + 2, args.batch), device=device)
    kernels = [p for n, p in network.named_parameters() if p.dim() > 1]
    others = [p for n, p in network.named_parameters() if p.dim() == 1]
    groups = [{"params": kernels, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.002, fused=True)
    alpha = torch.tensor(0.75, device=device)
    beta = torch.distributions.Beta(alpha, alpha, validate_args=False)

    def probe(images):
        return average.classifier(average(images))

    if args.compile:
        step, probe = torch.compile(step), torch.compile(probe)

    def one_step():
        weight = beta.sample((rows,))
        weight, partner = torch.maximum(weight, 1 - weight), torch.randperm(rows, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            loss = step(network, images, args, order, weight, partner)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 0.001)
            if args.method == "remixmatch":
                probe(images[: args.batch])
        return loss

    def synchronised():
        loss = one_step().item()
        assert loss == loss, "the loss is not a number"

    for _ in range(args.warm_up):
        synchronised()
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        synchronised()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    counted = args.batch * (1 if args.method == "supervised" else args.views + 5)
    result = {
        "torch": torch.__version__,
        "method": args.method,
        "network": args.network,
        "batch": args.batch,
        "milliseconds": 1e3 * median,
        "images_per_second": counted / median,
    }
    if device.type == "cuda":
        result["gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
    print(json.dumps(result))


if __name__ == "__main__":
    main()
