"""One inference engine in a process of its own: answers one image, then times itself whenever it is asked to.

    python benchmarks/kernel_peer.py ENGINE MODEL IMAGE.npy THREADS

Needs numpy and the engine, nothing of mobileprune: an engine may want another Python. The first line of output is
the answer, {"output": [...]}. After that each line of input, a number of seconds, is a block of runs, and each line of
output its times: {"times": [seconds, ...], "cpu": CPU seconds of this process}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

Run = Callable[[], np.ndarray]
MIN_RUNS = 3


def openvino(model: str, image: np.ndarray, threads: int) -> Run:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    given = ov.Tensor(np.ascontiguousarray(image))  # a copy, which the request keeps
    request.set_input_tensor(given)

    def run() -> np.ndarray:
        request.infer()
        return np.asarray(request.get_output_tensor().data)

    return run


def mnn(model: str, image: np.ndarray, threads: int) -> Run:
    import MNN

    settings = {"backend": "CPU", "numThread": threads, "precision": "high"}
    manager = MNN.nn.create_runtime_manager((settings,))
    module = MNN.nn.load_module_from_file(model, ["input"], ["logits"], runtime_manager=manager)
    given = MNN.expr.placeholder(list(image.shape), MNN.expr.NCHW, MNN.expr.float)

    def run() -> np.ndarray:
        given.write(image)
        return np.array(module.forward([given])[0].read())

    return run


def litert(model: str, image: np.ndarray, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(source, image.shape)
    interpreter.allocate_tensors()

    def run() -> np.ndarray:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(target))

    return run


def deepsparse(model: str, image: np.ndarray, threads: int) -> Run:
    os.environ["NM_DISABLE_ANALYTICS"] = "True"
    from deepsparse import compile_model

    engine = compile_model(model, batch_size=1, num_cores=threads)
    if engine.fraction_of_supported_ops < 1:  # the rest would run, unsaid, in ONNX Runtime
        raise RuntimeError(f"DeepSparse itself runs only {engine.fraction_of_supported_ops:.0%} of the operators")
    return lambda: engine.run([image])[0]


ENGINES = {"openvino": openvino, "mnn": mnn, "litert": litert, "deepsparse": deepsparse}


def block(run: Run, secs: float) -> dict[str, object]:
    cpu, times = time.process_time(), list[float]()
    run()  # not counted: the other side has emptied the caches
    while len(times) < MIN_RUNS or sum(times) < secs:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"times": times, "cpu": time.process_time() - cpu}


def main() -> None:
    engine, model, image, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines print
    run = ENGINES[engine](model, np.load(image), int(threads))
    print(json.dumps({"output": np.asarray(run()).ravel().tolist()}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(block(run, float(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
