"""`python -m calora`, which accelerate can launch in several processes."""

from calora.cli import main

main()
