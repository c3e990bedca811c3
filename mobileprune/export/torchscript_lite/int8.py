"""int8 arithmetic in the lite interpreter: torch's static quantisation, as QNNPACK, the engine of phones, runs it.

Weights are symmetric per output channel, q = round(w / s) with s = max|w| / 127, so that zeros stay zeros; activations
are unsigned with a zero point. How a file answers depends on the engine that is active while it is loaded and first
run: others saturate on many processors where QNNPACK does not. So these files are made and run with :data:`ENGINE`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from mobileprune.convert.harden import Head
from mobileprune.errors import MobilepruneError, TargetUnavailableError, one_line
from mobileprune.export.torchscript_lite.clamps import Apart, without_clamps

ENGINE = "qnnpack"
CALIBRATION_BATCH = 32


def int8(model: nn.Module, calibration: Tensor) -> nn.Module:
    """With ranges measured on ``calibration`` (N, C, H, W); a hardening layer keeps computing in float32."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own deprecations, and advice about observers
        try:
            return _quantized(copy.deepcopy(model).eval(), calibration)
        except Exception as error:  # any code of the user's may meet fx's proxies
            text = one_line(error)
            raise MobilepruneError(f"torch cannot quantise this model ({text}); use --precision fp16") from error


def _quantized(model: nn.Module, calibration: Tensor) -> nn.Module:
    from torch.ao.quantization import observer as observers
    from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
    from torch.ao.quantization.qconfig import QConfig
    from torch.ao.quantization.qconfig_mapping import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    class UpTo6(observers.HistogramObserver):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.clamp(max=6))

    def config(observer: type[observers.HistogramObserver]) -> QConfig:
        activation = observer.with_args(dtype=torch.quint8, reduce_range=False)
        return QConfig(activation, observers.per_channel_weight_observer_range_neg_127_to_127)

    traced = fx.GraphModule(model, _Tracer().trace(model))
    mapping = get_default_qconfig_mapping(ENGINE).set_global(config(observers.HistogramObserver))
    for name in without_clamps(traced):
        mapping.set_module_name(name, config(UpTo6))
    apart = {type(module) for module in traced.modules() if isinstance(module, Head | Apart)}
    custom = PrepareCustomConfig().set_non_traceable_module_classes(sorted(apart, key=str))
    prepared = prepare_fx(traced, mapping, (calibration[:1],), prepare_custom_config=custom)
    for batch in calibration.split(CALIBRATION_BATCH):
        prepared(batch)
    return convert_fx(prepared)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Head) or super().is_leaf_module(m, module_qualified_name)


@contextmanager
def engine() -> Iterator[None]:
    """QNNPACK for what is made, loaded or first run inside; TargetUnavailableError where torch lacks it."""
    quantized = torch.backends.quantized
    if ENGINE not in quantized.supported_engines:
        raise TargetUnavailableError("--precision int8: this torch was built without QNNPACK; use --precision fp16")
    before = quantized.engine
    quantized.engine = ENGINE
    try:
        yield
    finally:
        quantized.engine = before
