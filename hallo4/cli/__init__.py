"""The command line: words for people, no arithmetic; one module per command, `main` picks it."""

from hallo4.cli.front_door import main

__all__ = ["main"]
