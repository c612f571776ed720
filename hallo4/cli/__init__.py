"""The command line: words for people, no arithmetic. `main` (front_door.py) picks the command; each has a module here."""

from hallo4.cli.front_door import main

__all__ = ["main"]
