"""What to install where a command misses a package."""

import re
from importlib.metadata import PackageNotFoundError, requires

from calora.errors import install_hint

# Distributions that are called otherwise than what is imported from them.
_DISTRIBUTIONS = {"lingua": "lingua-language-detector", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# Of the extras that hold a package the first is named, so that a device is not told to install torch.
_EXTRAS = ("device", "serve", "all", "data", "mlx", "quantised", "cluster", "bench")


def how_to_install(module: str) -> str:
    """The command that installs what a module comes from.

    Args:
        module: As it is imported.
    """
    top = module.partition(".")[0]
    name = _DISTRIBUTIONS.get(top, top)
    extras = _extras_of(name.replace("_", "-").lower())
    if None in extras:
        return "in a clone: pip install ."
    extra = next((one for one in _EXTRAS if one in extras), None)
    if extra is None:
        return f"pip install {name}"
    return install_hint(extra)


def _extras_of(name: str) -> set[str | None]:
    """The extras that ask for a distribution; None is among them where calora does so itself."""
    try:
        lines = requires("calora") or []
    except PackageNotFoundError:  # a copy of the source, which is not installed
        lines = []
    asked = [re.match(r"([\w.-]+)(?:.*\bextra == ['\"]([\w-]+))?", line) for line in lines]
    return {found[2] for found in asked if found and found[1].replace("_", "-").lower() == name}
