"""A request that does not fit the state: its status and a text for whoever made it."""

from __future__ import annotations


class Refused(Exception):
    """The request does not fit the state; `status` is that of HTTP, the text is for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
