"""What a process may use, and several processes of one training, as `accelerate launch` starts them.

Alone, every process is the first of one.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """How many cores this process may use: no more than it was bound to, by `taskset` or a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_first() -> bool:
    """Whether this process is the one that writes and talks."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Which of this machine's processes this is, from 0: the GPU that it has."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def count_of() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Return when every process has come here."""
    if together():
        import torch

        torch.distributed.barrier()


def together() -> bool:
    """Whether processes are at work together now."""
    if "RANK" not in os.environ:
        return False
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def part_of_mean(mean: "torch.Tensor", count: int) -> "torch.Tensor":
    """This process's part of a mean over all processes' rows, such that the mean of the parts is that mean.

    Gradients are averaged over processes as if each had as many rows; completions differ in length.

    Args:
        mean: Over this process's rows, a scalar.
        count: Of its rows.
    """
    if not together():
        return mean
    import torch

    total = torch.tensor(float(count), device=mean.device)
    torch.distributed.all_reduce(total)
    return mean * (count * torch.distributed.get_world_size() / total)
