"""One call on a machine with an NVIDIA GPU: is the trainer right there, how fast is it, and how fast is PyTorch?

Needs the program built with `--features cuda`, Python with PyTorch, and CIFAR-10 as images in folders, train/CLASS/*.png and
test/CLASS/*.png, packed into one or more DIR/*.tar.gz; nothing else. **Untried so far**: it has not met a GPU.

    python3 run.py --flywheel ./flywheel --cifar DIR --out OUT

Ends in less than ten minutes: what does not fit is left out, and said. Another call can do the rest:
`--views 1 --precisions f32 --minutes 0`.

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
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time

BATCH = 64
STARTED = time.monotonic()
# Seconds, of the ten minutes of a call.
LIMIT, RESERVE = 600, 30
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
    assert not missing, f"{source}: expected train-0.tar.gz, train-1.tar.gz and test.tar.gz, no {missing} in them"


def seconds_left():
    return STARTED + LIMIT - RESERVE - time.monotonic()


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


def stop(run):
    """As Ctrl-C does; what does not obey within some seconds is killed."""
    run.send_signal(signal.SIGTERM)
    try:
        run.wait(15)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()


def ours(flywheel, folder, views, precision, batch, timeout):
    """Median over the log's lines but the first ones: kernels are tuned in those."""
    name = f"step-k{views}-{precision}-{batch}"
    steps = 120
    config = project(folder, name, precision=precision, batch=batch, steps=steps, log_every=10, evaluate_every=steps + 1,
                     views=views, ramp_steps=16384)
    run = start(flywheel, folder, name, config)
    deadline = time.monotonic() + timeout
    # The end of the run measures the test set; what counts is in the log by then.
    while run.poll() is None and time.monotonic() < deadline:
        if sum(r["kind"] == "train" for r in records(folder, name)) >= steps // 10:
            break
        time.sleep(0.5)
    stop(run)
    lines = [r for r in records(folder, name) if r["kind"] == "train"][4:]
    if not lines:
        return {"error": (folder / f"{name}.log").read_text(errors="replace")[-2000:] or f"nothing within {timeout:.0f} s"}
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
    try:
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"PyTorch: nothing within {timeout:.0f} s"}
    return json.loads(run.stdout) if run.returncode == 0 else {"error": run.stderr[-2000:]}


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


def train(flywheel, folder, minutes):
    config = project(folder, "long", precision="bf16", batch=BATCH, steps=1 << 20, log_every=50, evaluate_every=500, views=8,
                     ramp_steps=4096)
    run = start(flywheel, folder, "long", config)
    try:
        run.wait(max(1, min(60 * minutes, seconds_left())))
    except subprocess.TimeoutExpired:
        pass
    stop(run)
    lines = records(folder, "long")
    return {
        "accuracy": [(r["step"], r["test"]["accuracy"]) for r in lines if r["kind"] == "evaluation"],
        "images_per_second": [(r["step"], r["images_per_second"]) for r in lines if r["kind"] == "train"][::10],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flywheel", required=True)
    parser.add_argument("--cifar", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=2, help="of training; 0 for none")
    parser.add_argument("--views", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "f32"], choices=["bf16", "f32"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    unpack(args.cifar, args.out)
    flywheel = str(pathlib.Path(args.flywheel).resolve())
    results = {}

    def keep(key, value):
        results[key] = value
        (args.out / "results.json").write_text(json.dumps(results, indent=1))

    doctor = subprocess.run([flywheel, "doctor", "--device", "cuda"], capture_output=True, text=True)
    print(doctor.stdout, doctor.stderr, sep="\n", flush=True)
    keep("doctor", {"passed": doctor.returncode == 0, "text": doctor.stdout})

    print("| K | precision | flywheel ms | PyTorch ms | ratio | memory at least | arithmetic at least | launches at most | waiting |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for precision, views in itertools.product(args.precisions, args.views):
        name = f"K={views} {precision}"
        timeout = lambda most: min(most, seconds_left() - 60 * args.minutes)
        if timeout(60) < 60:
            print(f"{name}: left out, there is no time for it in this call", file=sys.stderr, flush=True)
            continue
        mine = ours(flywheel, args.out, views, precision, BATCH, timeout(90))
        peer = pytorch(views, precision, max(1, timeout(150)))
        launches = ours(flywheel, args.out, views, precision, 4, max(1, timeout(60)))
        least = limits(views, precision)
        keep(f"step {name}", {"flywheel": mine, "pytorch": peer, "flywheel, 4 images": launches, "limits": least})
        for measured in (mine, peer, launches):
            if "error" in measured:
                print(f"{name}: {measured['error']}", file=sys.stderr, flush=True)
        milliseconds = lambda measured: f"{measured['milliseconds']:.1f}" if "error" not in measured else "?"
        both = "error" not in mine and "error" not in peer
        ratio = f"{peer['milliseconds'] / mine['milliseconds']:.2f}" if both else "?"
        waiting = f"{100 * mine['waiting']:.0f} %" if "error" not in mine else "?"
        print(
            f"| {views} | {precision} | {milliseconds(mine)} | {milliseconds(peer)} | {ratio} | {least['memory_ms']:.1f} "
            f"| {least['arithmetic_ms']:.1f} | {milliseconds(launches)} | {waiting} |",
            flush=True,
        )
    if args.minutes > 0:
        keep("training", train(flywheel, args.out, args.minutes))
        for step, accuracy in results["training"]["accuracy"]:
            print(f"step {step}: test accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
