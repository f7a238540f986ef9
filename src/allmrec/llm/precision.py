"""At which precision a frozen language model is held: what is asked of transformers."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch
from torch import nn

from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.core.precision import precision_here

__all__ = ["Precision", "keep_weights", "loading_arguments"]

# The paper's program holds its language model in int8 (LLM.int8, Dettmers et al., 2022); int4 is NF4 (QLoRA, 2023).
Precision = Literal["auto", "float32", "bfloat16", "int8", "int4"]


def keep_weights(model: nn.Module) -> None:
    """Have int4 layers leave their weights as they are.

    On CPUs with AVX512-BF16 bitsandbytes repacks them in place at the first pass without gradients; gradients through the
    layer are wrong from then on, and the model's fingerprint changes.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]  # torch thinks attributes are modules


def loading_arguments(precision: Precision, device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        precision: auto: see `precision_here`.
        device: where the model will be.

    Raises:
        MissingExtraError: int8 or int4 without bitsandbytes.
        ConfigError: int8 or int4 on a device that bitsandbytes has no kernels for.
    """
    if precision in ("int8", "int4"):
        if importlib.util.find_spec("bitsandbytes") is None:
            raise MissingExtraError("bitsandbytes", "quantised", f"A language model in {precision}")
        if device.type not in ("cpu", "cuda", "xpu"):
            raise ConfigError(
                f"A language model in {precision} cannot run on {device.type}: bitsandbytes has kernels for CUDA, Intel "
                "GPUs and CPUs. Use llm.precision=bfloat16 there."
            )
        from transformers import BitsAndBytesConfig  # slow to import, needed by this branch alone

        compute = torch.float32 if device.type == "cpu" else torch.bfloat16
        int4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}
        wanted: dict[str, Any] = {"load_in_8bit": True} if precision == "int8" else int4
        config = BitsAndBytesConfig(**wanted)  # type: ignore[no-untyped-call]  # transformers leaves it without annotations
        return {"quantization_config": config, "device_map": {"": device}, "dtype": compute}
    if precision == "auto":
        precision = precision_here(device)
    return {"dtype": getattr(torch, precision)}
