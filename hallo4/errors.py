"""One family of errors for people: what happened, what was found, what is allowed, what to do next.

The command line turns every `Hallo4Error` into one line and exit code 2, without a traceback.
`assert` is kept for our own mistakes.
"""


class Hallo4Error(Exception):
    """Base of every error that a user can cause and can fix; `str(error)` is one complete line."""


class InputError(Hallo4Error):
    """A file or value given by the user cannot be used: missing, empty, truncated, wrong kind, out of
    range."""


class NoPersonError(InputError):
    """No person was found in a picture or video that was read to its end."""


class OutputError(Hallo4Error):
    """The result cannot be written where the user asked for it."""


class LockedError(OutputError):
    """Another process, or thread, is working there."""


class CheckpointError(Hallo4Error):
    """Weights or configuration do not fit: missing, unexpected or mis-shaped tensors, unsafe files,
    unknown names."""


class FetchError(Hallo4Error):
    """A file from elsewhere cannot be fetched: no network, access refused, not there, or not the published
    one."""


class ShapeError(Hallo4Error, ValueError):
    """An array has a length or size that the model cannot take, such as a frame count that is not 4k+1."""


class MissingExtraError(Hallo4Error, ImportError):
    """An optional dependency is needed; the message holds the `pip install 'hallo4[...]'` line."""


class Cancelled(Hallo4Error):
    """The user stopped the work; what was finished is kept and the message says where."""
