"""``python -m bitspike``."""

from .cli import main

main()
