"""One call on a machine with an NVIDIA GPU: is the trainer right there, how fast is it, and how fast is PyTorch?

Needs the program built with `--features cuda`, Python with PyTorch, and CIFAR-10 as images in folders, train/CLASS/* and
test/CLASS/*, packed into one or more DIR/*.tar.gz. What the program wants of the CUDA toolkit (docs/training.md) is taken from
PyTorch's packages where the machine has none. **Untried so far**: it has not met a GPU.

    python3 run.py --flywheel ./flywheel --cifar DIR --out OUT

Ends within the given minutes, less than ten if not told otherwise. What comes first matters most, and what does not fit is left
out, and said. Later runs can do the rest into the same OUT: `--views 1 --precisions f32 --minutes 0`.

1. Proves forward and gradients against the processor (`flywheel doctor --device cuda`).
2. Trains CIFAR-10 with 250 labels for the given minutes (K = 8, bf16) and logs accuracy and images a second against step.
3. Times a ReMixMatch step of WRN-28-2 (bf16 and f32, K = 8 and 1) here and in PyTorch (bf16 autocast and f32 with TF32,
   channels_last, compiled), in turn, and prints the ratios. Beside them what the step's time can go to: what memory traffic
   and arithmetic need at least, what launches take at most (a step with 4 images in place of 64: as many launches, next to no
   work), and the share in which the trainer waited for images.

Kernels are tuned in the first steps, which can take a minute and is not counted. Our step has augmentation and the way of the
images to the GPU in it, PyTorch's has not.

Writes OUT/results.json, OUT/results.md with the tables, and OUT/log.txt with what the programs said. Exit status 1: the numbers
are not the processor's, or nothing was timed.
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
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
BATCH = 64
# Of a log's lines, each of ten steps, the first are not counted, and so many are enough.
WARM_UP, LINES = 4, 8
# Accuracy is that of averaged weights, over a hundred steps in place of a thousand: some minutes are hundreds of steps.
PROJECT = """
[data]
labeled = "{data}/train"
test = "{data}/test"
labels = 250

[preprocessing]
color = "rgb"
height = 32
width = 32

[network]
depth = 28
width = 2

[train]
device = "cuda"
precision = "{precision}"
batch = {batch}
steps = 1000000
log_every = 10
evaluate_every = {evaluate_every}
checkpoint_every = 1000000
ema_decay = 0.99
norm_rate = 0.05

[train.remixmatch]
strong_views = {views}
ramp_steps = 4096

[store]
folder = "{name}"
"""


class Budget:
    """The seconds that are left of some minutes."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self, most=float("inf")):
        return min(most, self.end - time.monotonic())


def unpack(source, folder):
    for archive in sorted(source.glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    missing = [part for part in ("train", "test") if not (folder / part).is_dir()]
    assert not missing, f"{source}: expected archives with the folders train and test, there is no {missing} in them"


def machine():
    import torch

    assert torch.cuda.is_available(), "PyTorch sees no NVIDIA GPU"
    return f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, PyTorch {torch.__version__}"


def cuda_toolkit(folder):
    """Environment in which the program finds the toolkit's headers and NVRTC: the machine's, or those of PyTorch's packages."""
    import torch

    packages = pathlib.Path(torch.__file__).parents[1] / "nvidia"
    nvcc = shutil.which("nvcc")
    roots = [os.environ.get("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda", nvcc and pathlib.Path(nvcc).resolve().parents[1]]
    roots = [pathlib.Path(root) for root in roots if root]
    roots += [header.parents[1] for header in sorted(packages.glob("*/include/cuda_fp16.h"))]
    root = next((root for root in roots if (root / "include" / "cuda_fp16.h").exists()), None)
    places = [root / part for part in ("lib64", "lib", "targets/x86_64-linux/lib") if root]
    places += [library.parent for library in packages.glob("*/lib/libnvrtc.so*")]
    libraries = [library for place in places for library in sorted(place.glob("libnvrtc.so*"))]
    environment = dict(os.environ)
    if root:
        environment["CUDA_PATH"] = str(root)
    if libraries:
        # Under the name that is asked for first, whatever version it is.
        (folder / "lib").mkdir()
        (folder / "lib" / "libnvrtc.so").symlink_to(libraries[0].resolve())
        search = [str(folder / "lib"), str(libraries[0].resolve().parent), os.environ.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, search))
    return environment, f"CUDA headers: {root}; NVRTC: {libraries[0] if libraries else None}"


class Program:
    """Flywheel, and what is said by it and by PyTorch."""

    def __init__(self, path, folder, environment, log):
        self.path, self.folder, self.environment, self.log = path, folder, environment, log

    def start(self, command, **options):
        return subprocess.Popen([str(part) for part in command], start_new_session=True, **options)

    def run(self, command, timeout, environment=None):
        """Exit status, or none if it did not end in time and was killed; and its output."""
        process = self.start(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = process.communicate(timeout=max(timeout, 1))
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            status = None
        self.say(command, out + err)
        return status, out, err

    def say(self, command, text):
        self.log.write(f"$ {' '.join(map(str, command))}\n{text}\n")
        self.log.flush()

    def doctor(self, timeout):
        status, out, err = self.run([self.path, "doctor", "--device", "cuda"], timeout, self.environment)
        said = {None: f"did not end within {timeout:.0f} s", 0: "passed"}.get(status, f"failed: {(out + err)[-2000:]}")
        return {"passed": status == 0, "said": said, "text": out}

    def train(self, name, timeout, seconds=None, **settings):
        """Trains until there are enough lines in the log or, if told so, for some seconds from the first of them."""
        config = self.folder / f"{name}.toml"
        config.write_text(PROJECT.format(name=name, data=self.folder, **settings))
        command = [self.path, "train", "--config", config]
        deadline = time.monotonic() + timeout
        begun = None
        with open(self.folder / f"{name}.log", "w+") as output:
            training = self.start(command, env=self.environment, stdout=output, stderr=output)
            while training.poll() is None and time.monotonic() < deadline:
                lines = len(self.records(name, "train"))
                begun = begun or (time.monotonic() if lines else None)
                if lines >= WARM_UP + LINES if seconds is None else begun and time.monotonic() >= begun + seconds:
                    break
                time.sleep(0.2)
            has_ended = training.poll() is not None
            stop(training)
            output.seek(0)
            said = output.read()
        self.say(command, said)
        lines = self.records(name, "train")
        result = {
            "images_per_second": [(r["step"], r["images_per_second"]) for r in lines],
            "accuracy": [(r["step"], r["test"]["accuracy"]) for r in self.records(name, "evaluation")],
        }
        counted = lines[WARM_UP:]
        # It has more steps to do than there is time for.
        if has_ended or not counted:
            error = f"{len(lines)} lines in the log within {timeout:.0f} s; exit status {training.returncode}: {said[-1000:]}"
            return result | {"error": error}
        speed = statistics.median(r["images_per_second"] for r in counted)
        return result | {
            "milliseconds": 1e3 * settings["batch"] * (settings["views"] + 5) / speed,
            "waiting": statistics.median(r["waiting"] for r in counted),
        }

    def records(self, name, kind):
        log = self.folder / name / "runs" / "train" / "metrics.jsonl"
        text = log.read_text() if log.exists() else ""
        # The last line may be half written.
        records = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [record for record in records if record["kind"] == kind]

    def pytorch(self, views, precision, timeout):
        """Compiled, or as it is if that fails."""
        command = [sys.executable, HERE.parent / "torch_step.py", "--method", "remixmatch", "--network", "28-2"]
        command += ["--batch", BATCH, "--views", views, "--device", "cuda", "--channels-last", "--warm-up", 10, "--steps", 30]
        command += ["--bf16"] if precision == "bf16" else []
        budget = Budget(timeout / 60)
        for options in (["--compile"], []):
            status, out, err = self.run(command + options, budget.left())
            if status == 0:
                return json.loads(out) | {"compiled": bool(options)}
            if budget.left() < 20:
                break
        return {"error": f"PyTorch, within {timeout:.0f} s: exit status {status}: {err[-1000:]}"}


def stop(training):
    """As Ctrl-C does; what does not obey within some seconds is killed."""
    training.send_signal(signal.SIGTERM)
    try:
        training.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()


def convolutions():
    """WRN-28-2's, as (kernel, channels in, channels out, side of the input, side of the output)."""
    yield 3, 3, 16, 32, 32
    inputs, side = 16, 32
    for outputs in (32, 64, 128):
        for block in range(4):
            after = side // 2 if block == 0 and outputs > 32 else side
            yield 3, inputs, outputs, side, after
            yield 3, outputs, outputs, after, after
            if inputs != outputs:
                yield 1, inputs, outputs, side, after
            inputs, side = outputs, after


def limits(views, precision):
    """Milliseconds that a step needs at least, if every convolution's images pass through memory once, in the precision's size,
    and nothing else does. Forward and both gradients for all passes but the anchor's and the probes', which are forward alone.
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
    passes = 3 * BATCH * (views + 4) + BATCH * 2
    flop = passes * sum(2 * k * k * i * o * after * after for k, i, o, _, after in convolutions())
    elements = passes * sum(i * before * before + o * after * after for _, i, o, before, after in convolutions())
    return {
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "arithmetic_tflop_per_s": arithmetic / 1e12,
        "memory_ms": 1e3 * elements * (2 if precision == "bf16" else 4) / bandwidth,
        "arithmetic_ms": 1e3 * flop / arithmetic,
    }


def tables(results):
    """Everything known, as Markdown."""
    lines = [results.get("machine", ""), "", f"`flywheel doctor --device cuda`: {results['doctor']['said']}", results["doctor"]["text"], ""]
    lines += ["| K | precision | flywheel, ms | PyTorch, ms | ratio | memory at least, ms | arithmetic at least, ms | waiting for images |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    errors = []
    for name, row in results.items():
        if not name.startswith("step ") or "views" not in row:
            continue
        mine, peer, least = row["flywheel"], row["pytorch"], row["limits"]
        errors += [f"{name}, {who}: {r['error']}" for who, r in (("flywheel", mine), ("PyTorch", peer)) if "error" in r]
        shown = [f"{r['milliseconds']:.1f}" if "error" not in r else "?" for r in (mine, peer)]
        shown[1] += " (not compiled)" if not peer.get("compiled", True) else ""
        ratio = f"{peer['milliseconds'] / mine['milliseconds']:.2f}" if "?" not in shown else "?"
        waiting = f"{100 * mine['waiting']:.0f} %" if "error" not in mine else "?"
        cells = [row["views"], row["precision"], *shown, ratio, f"{least['memory_ms']:.1f}", f"{least['arithmetic_ms']:.1f}", waiting]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    launches = results.get("launches", {"error": "left out"})
    lines += ["", f"A step of 4 images, bf16, K = 8: {launches.get('error') or '%.1f ms' % launches['milliseconds']}"]
    if training := results.get("training"):
        errors += [f"training: {training['error']}"] if "error" in training else []
        lines += ["", "| step | test accuracy |", "|---|---|"]
        lines += [f"| {step} | {100 * accuracy:.1f} % |" for step, accuracy in training["accuracy"]]
    return "\n".join(lines + [""] + errors) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flywheel", type=pathlib.Path, required=True)
    parser.add_argument("--cifar", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=2, help="of training; 0 for none")
    parser.add_argument("--within", type=float, default=9.5, help="minutes for everything")
    parser.add_argument("--views", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "f32"], choices=["bf16", "f32"])
    args = parser.parse_args()
    budget = Budget(args.within)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}

    def keep(key, value):
        results[key] = value
        path.write_text(json.dumps(results, indent=1))
        print(f"{budget.left():.0f} s left: measured {key}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, open(args.out / "log.txt", "a") as log:
        folder = pathlib.Path(folder)
        unpack(args.cifar, folder)
        environment, toolkit = cuda_toolkit(folder)
        program = Program(args.flywheel.resolve(), folder, environment, log)
        keep("machine", f"{machine()}; {toolkit}")
        keep("doctor", program.doctor(budget.left(150)))

        no_time, rows = {"error": "left out: no time was left"}, []
        training = no_time
        if args.minutes > 0:
            settings = {"views": 8, "precision": "bf16", "batch": BATCH, "evaluate_every": 100}
            training = program.train("long", budget.left(60 * args.minutes + 120), 60 * args.minutes, **settings)
            keep("training", training)
        for precision, views in itertools.product(args.precisions, args.views):
            settings = {"views": views, "precision": precision, "evaluate_every": 1000000}
            mine, peer = no_time, no_time
            if (precision, views) == ("bf16", 8) and "error" not in training:
                mine = training
            elif budget.left() > 40:
                mine = program.train(f"step-{precision}-{views}", budget.left(120) - 12, batch=BATCH, **settings)
            if budget.left() > 40:
                peer = program.pytorch(views, precision, budget.left(120) - 5)
            row = {"views": views, "precision": precision, "flywheel": mine, "pytorch": peer, "limits": limits(views, precision)}
            keep(f"step {precision} K={views}", row)
            rows.append(row)
            if (precision, views) == ("bf16", 8) and budget.left() > 40:
                keep("launches", program.train("launches", budget.left(90) - 12, batch=4, **settings))
    page = tables(results)
    (args.out / "results.md").write_text(page)
    print(page)
    timed = any("error" not in row["flywheel"] for row in rows)
    sys.exit(0 if results["doctor"]["passed"] and timed else 1)


if __name__ == "__main__":
    main()
