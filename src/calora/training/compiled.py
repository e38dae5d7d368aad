"""The norms of a backbone compiled for a training on a CPU, where they took a third of a step."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import nn

_NORM = "RMSNorm"
_WORTHWHILE = 256


@contextmanager
def compiled_norms(model: Any) -> Iterator[None]:
    """Let a model's norms run as one kernel each while a loss is computed that has a gradient.

    transformers writes a norm as eight operations in float32, and each passes over memory forwards and backwards. What
    a training is judged by, without gradients, runs as it does elsewhere.

    Args:
        model: It is left as it is on a GPU, where it is small, and where no compiler for C++ is installed.
    """
    norms = [module for module in model.modules() if type(module).__name__.endswith(_NORM)]
    small = model.config.get_text_config().hidden_size < _WORTHWHILE
    if not norms or small or model.device.type != "cpu" or not _can_compile():
        yield
        return
    compiled = {kind: torch.compile(kind.forward, dynamic=True) for kind in {type(norm) for norm in norms}}
    for norm in norms:
        norm.forward = partial(_forward, norm, compiled[type(norm)])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # torch's compiler asks for it itself
            yield
    finally:
        for norm in norms:
            del norm.forward
        torch.compiler.reset()  # what is compiled counts against a limit that the next training would meet


def _forward(norm: nn.Module, compiled: Callable[..., torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    plain: Callable[..., torch.Tensor] = type(norm).forward
    return (compiled if torch.is_grad_enabled() else plain)(norm, hidden)


@cache
def _can_compile() -> bool:
    try:
        torch.compile(torch.neg)(torch.ones(2))
    except Exception:  # of many kinds: no compiler, one that fails, a system that torch compiles nothing for
        return False
    return True
