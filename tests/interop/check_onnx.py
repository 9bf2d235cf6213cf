"""Checks ONNX files as other programs would: ONNX's own checker, and ONNX Runtime on the golden images.

    pip install onnx onnxruntime numpy && python check_onnx.py FOLDER

FOLDER holds NAME.onnx beside NAME.json: images (rows of bytes, channels together), the logits that the trainer computed for
them, the temperature, how many images the model takes at once, how far logits may be off, and how many convolutions ONNX
Runtime has to compute in whole numbers. Exits with 1 at the first that is not as it should be.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

files = sorted(Path(sys.argv[1]).glob("*.onnx"))
assert files, "no models"
for path in files:
    case = json.loads(path.with_suffix(".json").read_text())
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert all(names) and len(set(names)) == len(names), "a node without a name of its own"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert set(metadata) == {"labels", "preprocessing", "digest", "licence"}, metadata

    tolerance = case["tolerance"]
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(path.with_suffix(".optimized"))
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(settings.optimized_model_filepath).graph.node]
    assert operators.count("QLinearConv") == case["integer_convolutions"], (path.name, operators)
    (given,) = session.get_inputs()
    images = np.array(case["images"], np.uint8).reshape(case["shape"])  # [image, row, column, channel]
    logits = np.array(case["logits"])
    if given.type == "tensor(float)":
        images = (images.astype(np.float32) * np.float32(2 / 255) - 1).transpose(0, 3, 1, 2)
    batch = given.shape[0]
    assert batch == case["batch"], (batch, case["batch"])
    size = batch if isinstance(batch, int) else len(images)
    found = {output.name: [] for output in session.get_outputs()}
    for start in range(0, len(images), size):
        outputs = session.run(None, {given.name: np.ascontiguousarray(images[start : start + size])})
        for name, values in zip(found, outputs):
            found[name].append(values)
    found = {name: np.concatenate(values) for name, values in found.items()}

    difference = np.abs(found["logits"] - logits).max()
    assert difference <= tolerance * max(1, np.abs(logits).max()), (path.name, difference)
    if "probs" in found:
        scaled = np.exp((logits - logits.max(1, keepdims=True)) / case["temperature"])
        probs = scaled / scaled.sum(1, keepdims=True)
        assert np.abs(found["probs"] - probs).max() <= tolerance, path.name
    if "embedding" in found:
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        weight = constants["classifier.weight.f16"].astype(np.float32)
        again = found["embedding"] @ weight.T + constants["classifier.bias"]
        assert np.abs(again - found["logits"]).max() <= tolerance * max(1, np.abs(logits).max()), path.name
    print(f"{path.name}: {', '.join(found)}, logits within {difference:.1e}")
