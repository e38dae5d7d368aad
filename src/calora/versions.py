"""What made a result: versions of what is installed, and the processor."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from calora import __version__

_PACKAGES = ("numpy", "torch", "transformers", "peft", "rouge-score", "sacrebleu", "lingua-language-detector")


def versions() -> dict[str, str]:
    """Of calora, Python, and those packages that figures depend on and that are installed here."""
    found = {"calora": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
