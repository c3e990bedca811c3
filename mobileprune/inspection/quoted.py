"""Numbers of committed results that advice quotes, to two digits; a test holds them against the newest results.

Speed against dense float32 in ONNX Runtime, one image, one thread, x86.
"""

from __future__ import annotations

FORMS = {  # benchmarks/results/forms.md: network, file
    ("lenet5", "onnx fp32 dense"): 0.99,
    ("lenet5", "onnx int8 dense"): 0.63,
    ("lenet5", "torchscript-lite fp32 dense"): 0.22,
    ("lenet5", "onnx fp32 half the channels"): 1.1,
    ("resnet18", "onnx fp32 dense"): 1.0,
    ("resnet18", "onnx fp16 packed"): 0.98,
    ("resnet18", "onnx int8 dense"): 2.9,
    ("resnet18", "torchscript-lite fp32 dense"): 0.38,
    ("resnet18", "onnx fp32 half the channels"): 4.6,
}
PEERS = {  # benchmarks/results/kernels-avx512.md, 90 % zeros: network, runtime, pattern
    ("resnet18", "MNN", ""): 0.74,
    ("resnet18", "MNN sparse", "unstructured"): 1.2,
    ("resnet18", "MNN sparse", "block:4x1"): 1.1,
    ("mobilenetv2", "MNN", ""): 0.6,
    ("mobilenetv2", "MNN sparse", "unstructured"): 1.1,
    ("mobilenetv2", "MNN sparse", "block:4x1"): 1.1,
    ("mobilenetv2", "LiteRT", ""): 1.2,
    ("mobilenetv2", "LiteRT sparse", "unstructured"): 1.2,
}
TITLES = {"lenet5": "LeNet-5", "resnet18": "ResNet-18", "mobilenetv2": "MobileNetV2"}


def of_form(file: str, *networks: str) -> str:
    """As in "ResNet-18 4.6x, LeNet-5 1.1x"."""
    return ", ".join(f"{TITLES[network]} {FORMS[network, file]}x" for network in networks)


def of_peer(runtime: str, pattern: str, *networks: str) -> str:
    """As in "ResNet-18 1.2x, MobileNetV2 1.1x"."""
    return ", ".join(f"{TITLES[network]} {PEERS[network, runtime, pattern]}x" for network in networks)
