"""One call on a machine with an NVIDIA GPU: is the trainer right there, how fast is it, and how fast is PyTorch?

Needs the program built with `--features cuda`, Python with PyTorch, and CIFAR-10 as the tars of images that
docs/results.md names; nothing else. Ends in less than ten minutes.

    python3 run.py --flywheel ./flywheel --cifar DIR --out OUT [--minutes 3]

1. Proves forward and gradients against the processor (`flywheel doctor --device cuda`).
2. Times a ReMixMatch step of WRN-28-2 (K = 8 and 1, f32 and bf16) here and in PyTorch (f32 with TF32 and bf16 autocast,
   channels_last, compiled), in turn, and prints the ratios, beside the time that memory traffic and arithmetic need at
   least.
3. Trains CIFAR-10 with 250 labels for the given minutes and logs accuracy against step.

Writes OUT/results.json and prints tables in Markdown.
"""

import argparse
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tarfile
import time

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
steps = {steps}
log_every = {log_every}
evaluate_every = {evaluate_every}
checkpoint_every = {evaluate_every}
ema_decay = {ema_decay}
norm_rate = {norm_rate}

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


def project(folder, name, **settings):
    path = folder / f"{name}.toml"
    path.write_text(PROJECT.format(name=name, **settings))
    return path


def records(folder, name):
    log = folder / f"runs-{name}" / "runs" / "train" / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def ours(flywheel, folder, views, precision):
    """Median over the log's lines but the first ones: kernels are tuned in those."""
    name = f"step-k{views}-{precision}"
    steps = 120
    config = project(folder, name, precision=precision, steps=steps, log_every=10, evaluate_every=steps + 1, views=views,
                     ramp_steps=16384, ema_decay=0.999, norm_rate=0.001)
    # The end of the run measures the test set; what counts is in the log by then.
    run = subprocess.Popen([flywheel, "train", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < deadline:
        if sum(r["kind"] == "train" for r in records(folder, name)) >= steps // 10:
            run.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    run.kill()
    lines = [r for r in records(folder, name) if r["kind"] == "train"][4:]
    if not lines:
        return {"error": run.stderr.read().decode()[-2000:]}
    speed = statistics.median(r["images_per_second"] for r in lines)
    return {
        "milliseconds": 1e3 * 64 * (views + 5) / speed,
        "images_per_second": speed,
        "waiting": statistics.median(r["waiting"] for r in lines),
    }


def pytorch(views, precision):
    command = [sys.executable, HERE.parent / "torch_step.py", "--method", "remixmatch", "--network", "28-2", "--batch", "64"]
    command += ["--views", str(views), "--device", "cuda", "--channels-last", "--compile", "--warm-up", "8", "--steps", "30"]
    command += ["--bf16"] if precision == "bf16" else []
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=150)
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
    learned, forward_only = 64 * (views + 4), 64 * 2
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
    config = project(folder, "long", precision="bf16", steps=1 << 20, log_every=50, evaluate_every=500, views=8,
                     ramp_steps=4096, ema_decay=0.999, norm_rate=0.001)
    run = subprocess.Popen([flywheel, "train", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        run.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGTERM)
        run.wait(60)
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
    parser.add_argument("--minutes", type=float, default=3)
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

    print("| K | precision | flywheel ms | PyTorch ms | ratio | waiting | memory at least | arithmetic at least |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for views in (8, 1):
        for precision in ("bf16", "f32"):
            mine, peer, least = ours(flywheel, args.out, views, precision), pytorch(views, precision), limits(views, precision)
            keep(f"step k{views} {precision}", {"flywheel": mine, "pytorch": peer, "limits": least})
            if "error" in mine or "error" in peer:
                print(f"K={views} {precision}:", mine.get("error", ""), peer.get("error", ""), file=sys.stderr, flush=True)
                continue
            ratio = peer["milliseconds"] / mine["milliseconds"]
            print(
                f"| {views} | {precision} | {mine['milliseconds']:.1f} | {peer['milliseconds']:.1f} | {ratio:.2f} "
                f"| {100 * mine['waiting']:.0f} % | {least['memory_ms']:.1f} ms | {least['arithmetic_ms']:.1f} ms |",
                flush=True,
            )
    keep("training", train(flywheel, args.out, args.minutes))
    for step, accuracy in results["training"]["accuracy"]:
        print(f"step {step}: test accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
