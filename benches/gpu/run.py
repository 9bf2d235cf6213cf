"""One call on a machine with an NVIDIA GPU: is the trainer right there, how fast is it, and how fast is PyTorch?

Needs the program built with `--features cuda`, Python with PyTorch, and CIFAR-10 as images in folders, train/CLASS/* and
test/CLASS/*, packed into one or more DIR/*.tar.gz; and what CUDA needs to run, see docs/training.md. **Untried so far**: it has not met a GPU.

    python3 run.py --flywheel ./flywheel --cifar DIR --out OUT

Ends within the given minutes, less than ten if not told otherwise: what does not fit is left out, and said. Later runs can do
the rest into the same OUT: `--views 1 --precisions f32 --minutes 0`.

1. Proves forward and gradients against the processor (`flywheel doctor --device cuda`).
2. Times a ReMixMatch step of WRN-28-2 (K = 8 and 1, bf16 and f32) here and in PyTorch (bf16 autocast and f32 with TF32,
   channels_last, compiled), in turn, and prints the ratios. Beside them what the step's time can go to: what memory traffic
   and arithmetic need at least, what launches take at most (the same step with 4 images in place of 64: as many launches,
   next to no work), and the share in which the GPU waited for images.
3. Trains CIFAR-10 with 250 labels for the given minutes and logs accuracy against step.

Writes OUT/results.json and prints tables in Markdown.
"""

import argparse
import itertools
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time

BATCH = 64
HERE = pathlib.Path(__file__).resolve().parent
PROJECT = """
[data]
labeled = "train"
test = "test"
labels = 250

[preprocessing]
color = "rgb"
height = 32
width = 32

[train]
device = "cuda"
precision = "{precision}"
batch = {batch}
steps = {steps}
log_every = {log_every}
evaluate_every = {evaluate_every}
checkpoint_every = {evaluate_every}

[train.remixmatch]
strong_views = {views}
ramp_steps = {ramp_steps}

[store]
folder = "runs-{name}"
"""


def unpack(source, folder):
    for archive in sorted(source.glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    missing = [part for part in ("train", "test") if not (folder / part).is_dir()]
    assert not missing, f"{source}: expected archives with the folders train and test, there is no {missing} in them"


class Budget:
    """The seconds that are left of some minutes."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self, most=float("inf")):
        return min(most, self.end - time.monotonic())


def run(command, timeout):
    """Exit status and output. What has not ended in time is killed, with everything that it has started."""
    command = [str(part) for part in command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output = process.communicate(timeout=max(timeout, 1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()
    return process.returncode, *output


def project(folder, name, **settings):
    # A run of an earlier call would go on, and its log would be read.
    shutil.rmtree(folder / f"runs-{name}", ignore_errors=True)
    path = folder / f"{name}.toml"
    path.write_text(PROJECT.format(name=name, **settings))
    return path


def records(folder, name):
    log = folder / f"runs-{name}" / "runs" / "train" / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def start(flywheel, folder, name, config):
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen([flywheel, "train", "--config", config], stdout=log, stderr=log)


def stop(training):
    """As Ctrl-C does; what does not obey within some seconds is killed."""
    training.send_signal(signal.SIGTERM)
    try:
        training.wait(15)
    except subprocess.TimeoutExpired:
        training.kill()
        training.wait()


def ours(flywheel, folder, views, precision, batch, timeout):
    """Median over the log's lines but the first ones: kernels are tuned in those."""
    name = f"step-k{views}-{precision}-{batch}"
    steps = 120
    config = project(folder, name, precision=precision, batch=batch, steps=steps, log_every=10, evaluate_every=steps + 1,
                     views=views, ramp_steps=16384)
    training = start(flywheel, folder, name, config)
    deadline = time.monotonic() + timeout
    # The end of the run measures the test set; what counts is in the log by then.
    while training.poll() is None and time.monotonic() < deadline:
        if sum(r["kind"] == "train" for r in records(folder, name)) >= steps // 10:
            break
        time.sleep(0.5)
    stop(training)
    lines = [r for r in records(folder, name) if r["kind"] == "train"][4:]
    if not lines:
        said = (folder / f"{name}.log").read_text(errors="replace")[-2000:]
        return {"error": f"too few lines in the log after {timeout:.0f} s; exit status {training.returncode}: {said}"}
    speed = statistics.median(r["images_per_second"] for r in lines)
    return {
        "milliseconds": 1e3 * batch * (views + 5) / speed,
        "images_per_second": speed,
        "waiting": statistics.median(r["waiting"] for r in lines),
    }


def pytorch(views, precision, timeout):
    command = [sys.executable, HERE.parent / "torch_step.py", "--method", "remixmatch", "--network", "28-2"]
    command += ["--batch", str(BATCH), "--views", str(views), "--device", "cuda", "--channels-last", "--compile", "--warm-up", "8", "--steps", "30"]
    command += ["--bf16"] if precision == "bf16" else []
    status, out, err = run(command, timeout)
    return json.loads(out) if status == 0 else {"error": f"PyTorch, within {timeout:.0f} s: exit status {status}: {err[-2000:]}"}


def limits(views, precision):
    """Milliseconds that a step needs at least, if every convolution's operands pass through memory once and nothing else does.

    WRN-28-2 on 32x32: 0.42 GFLOP forward an image; forward and both gradients for all passes but the anchor's and the
    probes', which are forward alone. Activations: each of 28 convolutions reads its input and writes its output.
    """
    import torch

    size = 1 << 28
    x = torch.empty(size, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = True

    def seconds(run, repeats=10):
        run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    bandwidth = 2 * size / seconds(lambda: y.copy_(x))
    arithmetic = 2 * 8192**3 / seconds(lambda: a @ a)
    learned, forward_only = BATCH * (views + 4), BATCH * 2
    flop = 0.424e9 * (3 * learned + forward_only)
    channels = [(16, 32 * 32, 1), (32, 32 * 32, 8), (64, 16 * 16, 8), (128, 8 * 8, 8)]
    elements = sum(c * pixels * 2 * layers for c, pixels, layers in channels)
    traffic = elements * (2 if precision == "bf16" else 4) * (3 * learned + forward_only)
    return {
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "arithmetic_tflop_per_s": arithmetic / 1e12,
        "memory_ms": 1e3 * traffic / bandwidth,
        "arithmetic_ms": 1e3 * flop / arithmetic,
    }


def train(flywheel, folder, seconds):
    config = project(folder, "long", precision="bf16", batch=BATCH, steps=1 << 20, log_every=50, evaluate_every=500, views=8,
                     ramp_steps=4096)
    began = time.monotonic()
    training = start(flywheel, folder, "long", config)
    try:
        training.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    took = time.monotonic() - began
    stop(training)
    lines = records(folder, "long")
    result = {
        "seconds": took,
        "accuracy": [(r["step"], r["test"]["accuracy"]) for r in lines if r["kind"] == "evaluation"],
        "images_per_second": [(r["step"], r["images_per_second"]) for r in lines if r["kind"] == "train"][::10],
    }
    said = (folder / "long.log").read_text(errors="replace")[-2000:]
    return result if result["accuracy"] else result | {"error": f"no evaluation within {took:.0f} s: {said}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flywheel", required=True)
    parser.add_argument("--cifar", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=2, help="of training; 0 for none")
    parser.add_argument("--within", type=float, default=9.5, help="minutes for everything")
    parser.add_argument("--views", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "f32"], choices=["bf16", "f32"])
    args = parser.parse_args()
    everything, steps = Budget(args.within), Budget(args.within - args.minutes)
    args.out.mkdir(parents=True, exist_ok=True)
    unpack(args.cifar, args.out)
    flywheel = str(pathlib.Path(args.flywheel).resolve())
    path = args.out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}

    def keep(key, value):
        results[key] = value
        path.write_text(json.dumps(results, indent=1))

    status, out, err = run([flywheel, "doctor", "--device", "cuda"], steps.left(60))
    print(out, err, sep="\n", flush=True)
    keep("doctor", {"passed": status == 0, "text": out})

    print("| K | precision | flywheel, ms | PyTorch, ms | ratio | memory at least, ms | arithmetic at least, ms | launches at most, ms "
          "| waiting |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    no_time = {"error": "left out: no time was left"}
    for precision, views in itertools.product(args.precisions, args.views):
        name = f"K={views} {precision}"
        mine, peer, launches = no_time, no_time, no_time
        least = limits(views, precision)
        if steps.left() > 60:
            mine = ours(flywheel, args.out, views, precision, BATCH, steps.left(90) - 15)
        if steps.left() > 60:
            peer = pytorch(views, precision, steps.left(150))
        if steps.left() > 30:
            launches = ours(flywheel, args.out, views, precision, 4, steps.left(60) - 15)
        keep(f"step {name}", {"flywheel": mine, "pytorch": peer, "flywheel, 4 images": launches, "limits": least})
        for what, measured in [("flywheel", mine), ("PyTorch", peer), ("flywheel, 4 images", launches)]:
            if "error" in measured:
                print(f"{name}, {what}: {measured['error']}", file=sys.stderr, flush=True)
        milliseconds = lambda measured: f"{measured['milliseconds']:.1f}" if "error" not in measured else "?"
        both = "error" not in mine and "error" not in peer
        ratio = f"{peer['milliseconds'] / mine['milliseconds']:.2f}" if both else "?"
        waiting = f"{100 * mine['waiting']:.0f} %" if "error" not in mine else "?"
        print(
            f"| {views} | {precision} | {milliseconds(mine)} | {milliseconds(peer)} | {ratio} | {least['memory_ms']:.1f} "
            f"| {least['arithmetic_ms']:.1f} | {milliseconds(launches)} | {waiting} |",
            flush=True,
        )
    if args.minutes > 0 and everything.left() > 30:
        training = train(flywheel, args.out, everything.left(60 * args.minutes) - 15)
        keep("training", training)
        print(f"trained for {training['seconds']:.0f} s", training.get("error", ""))
        for step, accuracy in training["accuracy"]:
            print(f"step {step}: test accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
