"""Makes static int8 models of an ONNX model, in the forms that ONNX Runtime's own quantiser writes.

    pip install onnx onnxruntime && python int8.py MODEL.onnx FOLDER

Writes qdq.onnx (float operators between QuantizeLinear and DequantizeLinear) and qoperator.onnx (QLinearConv), with 8-bit
weights a channel and 8-bit activations calibrated by min and max on noise: for timing, not for accuracy. `cargo bench
--workspace --bench networks -- --onnx FILES` times them.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Noise(CalibrationDataReader):
    def __init__(self, model):
        given = onnx.load(model).graph.input[0]
        shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
        rng = np.random.default_rng(1)
        self.images = iter([{given.name: rng.uniform(-1, 1, shape).astype(np.float32)} for _ in range(32)])

    def get_next(self):
        return next(self.images, None)


model, folder = Path(sys.argv[1]), Path(sys.argv[2])
prepared = folder / "prepared.onnx"
quant_pre_process(model, prepared)
for name, form in [("qdq", QuantFormat.QDQ), ("qoperator", QuantFormat.QOperator)]:
    quantize_static(
        prepared,
        folder / f"{name}.onnx",
        Noise(prepared),
        quant_format=form,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
    )
    print(folder / f"{name}.onnx")
