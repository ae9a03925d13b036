"""``python -m unabridged.apps``: the command line without its script."""

from unabridged.apps.cli import main

main()
