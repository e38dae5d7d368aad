import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

SERVES = """
import sys
from calora.serving import Device, write_bundle
from calora.cli import app
heavy = {"torch", "transformers", "peft", "accelerate"} & set(sys.modules)
assert not heavy, heavy
"""


def closure(package: str, extra: str) -> set[str]:
    """Every package that an extra brings, by the metadata of what is installed."""
    found: set[str] = set()
    waiting = [(package, extra)]
    while waiting:
        name, wanted = waiting.pop()
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another system
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            key = re.sub(r"[-_.]+", "-", requirement.name).lower()
            for one in requirement.extras or {""}:
                if f"{key}[{one}]" not in found:
                    found |= {key, f"{key}[{one}]"}
                    waiting.append((key, one))
    return found


def test_the_device_extra_brings_no_torch() -> None:
    found = closure("calora", "device")
    assert {"xllamacpp", "gguf", "numpy"} <= found
    assert not {"torch", "transformers", "peft", "accelerate"} & found
    assert "torch" in closure("calora", "train")


def test_serving_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", SERVES], check=True)
