"""``python -m vevals`` is the command ``vevals``."""

from vevals.cli import main

main()
