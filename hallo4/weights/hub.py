"""The servers that files from elsewhere lie on: what they offer, and a download that resumes after a break.

Through the parts of `huggingface_hub`, so that HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and proxies count. Its
`hf_hub_download` starts over after an interruption, so the file of a broken download is kept here.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hallo4.errors import FetchError, OutputError
from hallo4.version import __version__
from hallo4.weights.catalogue import HubFile, Source


@dataclass(frozen=True)
class Offer:
    """What a server says of a file before it is fetched. `url` is of one state of it (a commit).

    `sha256`: 64 digits, where the server knows it (large files); `git_sha1`: 40 digits, of small files.
    """

    url: str
    is_hub: bool
    size_bytes: int | None
    sha256: str | None
    git_sha1: str | None

    @property
    def stamp(self) -> str:
        """Tells this state of the file from others in the name of a broken download."""
        return (self.sha256 or self.git_sha1 or "web")[:16]


class NotOffered(FetchError):
    """A source does not have the file; another one may."""


class Unreachable(FetchError):
    """There is no connection to a server, or it broke; another one may be reached."""


def ask(source: Source) -> Offer:
    """What the server says of the file. NotOffered: it has none; FetchError: any other answer, or none."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    is_hub = isinstance(source, HubFile)
    url = hf_hub_url(source.repository, source.path) if is_hub else source.url
    try:
        found = get_hf_file_metadata(url, **_caller(is_hub))
    except Exception as error:
        raise _explained(error, source) from error
    if is_hub and found.commit_hash:
        url = hf_hub_url(source.repository, source.path, revision=found.commit_hash)
    etag = found.etag or ""
    return Offer(
        url,
        is_hub,
        found.size,
        etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None,
        etag if is_hub and re.fullmatch(r"[0-9a-f]{40}", etag) else None,
    )


def download(offer: Offer, part: Path, source: Source) -> None:
    """Fetch into `part`, resuming behind what it already holds. Interrupted in any way, `part` stays.

    What is whole already is not asked for again.

    FetchError: the connection broke, or access was refused. OutputError: the disk is full.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, logging

    if offer.size_bytes is not None and part.is_file() and part.stat().st_size == offer.size_bytes:
        return
    with part.open("ab") as file:
        if offer.size_bytes is None or file.tell() > offer.size_bytes:  # no way to tell when it is whole
            file.truncate(0)
            file.seek(0)
        loud = logging.get_verbosity()
        logging.set_verbosity_error()  # it warns before every new attempt; what matters is how it ends
        try:
            http_get(
                offer.url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers(**_caller(offer.is_hub)),
                expected_size=offer.size_bytes,
                displayed_filename=PurePosixPath(offer.url).name,
            )
        except Exception as error:
            raise _explained(error, source) from error
        finally:
            logging.set_verbosity(loud)


def _caller(is_hub: bool) -> dict[str, Any]:
    """Who asks. The token of the user (HF_TOKEN, or that of `hf auth login`) goes to the hub alone."""
    return {"token": None if is_hub else False, "library_name": "hallo4", "library_version": __version__}


def _explained(error: Exception, source: Source) -> FetchError | OutputError:
    """What went wrong, in one line. An error that no server and no disk makes is ours and raised as it is."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    what = f"{source.page}: {source.path}" if isinstance(source, HubFile) else source.url
    if isinstance(error, OfflineModeIsEnabled):
        return FetchError(
            f"{what} cannot be fetched: HF_HUB_OFFLINE is set. Unset it, or give the folder in which you "
            "have the file with --from."
        )
    if isinstance(error, HfHubHTTPError):
        return _answered(error.response.status_code, error.response.headers.get("X-Error-Code"), what, source)
    if isinstance(error, httpx2.HTTPError):
        reason = " ".join(str(error).split()) or type(error).__name__
        return Unreachable(
            f"{what} cannot be fetched: no connection, or it broke ({reason}). The same command resumes "
            "where it stopped; without a network, give the folder in which you have the file with --from."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{what} cannot be fetched: the disk is full. Free space; the same command resumes where it "
            "stopped."
        )
    if isinstance(error, OSError):
        reason = " ".join(str(error).split())
        return FetchError(f"{what} cannot be fetched ({reason}). Try the same command again.")
    raise error


def _answered(status: int, code: str | None, what: str, source: Source) -> FetchError:
    """An error status of the server. The hub answers 401, not 404, for a repository that it does not show."""
    if status == 404 or code == "RepoNotFound":
        return NotOffered(f"{what} is not there, or not shown to you (the server answers {status}).")
    if status in (401, 403) and isinstance(source, HubFile):
        return FetchError(
            f"{what}: access is refused (the server answers {status}). Agree to the terms on {source.page} "
            "with your account, and set HF_TOKEN to a token of it that may read."
        )
    return FetchError(f"{what}: the server answers {status}. Try again later.")
