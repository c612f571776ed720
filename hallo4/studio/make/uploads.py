"""Files that people send: they come in pieces, each into its own folder, and are checked once complete.

::

    uploads/<id>/about.json   role, name and size, said beforehand
                 sent_ROLE.*  as much as has come
                 facts.json   what was seen in it; there once it is whole and can be used
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hallo4.errors import Hallo4Error, InputError, LockedError, OutputError
from hallo4.json_file import read_json
from hallo4.lock import in_turn, sole_writer
from hallo4.media import collect_notes, load_image, open_sound, probe_video
from hallo4.motion import load_skeleton
from hallo4.pipelines.prepare_motion import is_keypoints
from hallo4.studio.make.job_folder import in_words_of_the_page
from hallo4.studio.make.settings import Role, UploadBody, UploadView
from hallo4.studio.refused import Refused
from hallo4.whole import write_whole

CHUNK_BYTES = 4 * 2**20
"""The largest piece."""
LIMIT_BYTES: dict[Role, int] = {"portrait": 64 * 2**20, "voice": 2**30, "motion": 2 * 2**30}
KEPT_S = 24 * 3600
"""What no job was made from is removed after a day."""
UNUSED_LIMIT = 200
"""As many files may wait for a job."""
_SPARE_BYTES = 2**28
"""Of the disk, never taken by uploads."""
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
WORDS: dict[Role, str] = {"portrait": "portrait", "voice": "voice", "motion": "driving video"}


class Uploads:
    """The files of one studio; safe for several threads, and several servers of the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def begin(self, body: UploadBody, used: Collection[str]) -> UploadView:
        """Make room for a file. Refused: too large, too many that no job uses, or no room on the disk."""
        limit, word = LIMIT_BYTES[body.role], WORDS[body.role]
        if body.size > limit:
            raise Refused(
                413,
                f"This {word} has {_megabytes(body.size)}; {_megabytes(limit)} are allowed. "
                "Cut or shrink it.",
            )
        self._leave_room(body.size)
        self.sweep(used)
        if sum(path.name not in used for path in self.folder.iterdir()) >= UNUSED_LIMIT:
            raise Refused(429, "Too many files wait for a job. Make videos of them, or come back tomorrow.")
        upload_id = secrets.token_hex(16)
        home = self.folder / upload_id
        home.mkdir()
        (home / f"sent_{body.role}{_suffix(body.name)}").touch()
        write_whole(home / "about.json", body.model_dump_json().encode())
        return self.view(upload_id)

    def add(self, upload_id: str, at: int, piece: bytes) -> UploadView:
        """Append `piece`, which begins at byte `at`; what is whole then waits for `look_at`.

        Refused: no such upload, a piece that begins elsewhere or comes while another is being written (409),
        one that exceeds the size, or no room on the disk.
        """
        view = self.view(upload_id)
        if not piece and at == view.received:  # after a lost connection, to have the file looked at
            return view
        with self._alone_with(upload_id, wait=False):
            view = self.view(upload_id)
            if at != view.received:
                raise Refused(
                    409, f"This piece begins at byte {at}, but {view.received} bytes were received."
                )
            if at + len(piece) > view.size:
                raise Refused(413, f"This piece exceeds the announced size of {view.size} bytes.")
            self._leave_room(len(piece))
            try:
                with self.path(upload_id).open("ab") as file:
                    file.write(piece)
            except OSError as error:
                raise OutputError(f"{upload_id}: cannot be written ({error.strerror}).") from error
            return self.view(upload_id)

    def look_at(self, upload_id: str) -> UploadView:
        """Look at a whole file, once; it is removed if it cannot be used. May take long and much memory.

        Refused: no such upload, or an unusable file.
        """
        with self._alone_with(upload_id, wait=True):
            view = self.view(upload_id)
            if view.received == view.size and not view.complete:
                self._look_at(view)
            return self.view(upload_id)

    def view(self, upload_id: str) -> UploadView:
        """What is here of it. Refused: no such upload."""
        home = self.folder / upload_id
        try:
            about = read_json(home / "about.json", UploadBody)
            received = self.path(upload_id).stat().st_size
        except (OSError, InputError):
            raise Refused(404, "This file was deleted or never sent. Choose it again.") from None
        facts = home / "facts.json"
        complete = facts.is_file()
        return UploadView(
            id=upload_id, role=about.role, name=_shown(about.name), size=about.size, received=received,
            complete=complete, facts=read_json(facts, str) if complete else "",
            address=f"media/{upload_id}/content",
        )  # fmt: skip

    def path(self, upload_id: str) -> Path:
        """Its content. OSError: there is none."""
        found = next((self.folder / upload_id).glob("sent_*"), None)
        if found is None:
            raise FileNotFoundError(upload_id)
        return found

    def usable(self, upload_id: str, role: Role) -> Path:
        """The path of a whole file that was sent for `role`. Refused: it is not."""
        view = self.view(upload_id)
        if not view.complete or view.role != role:
            raise Refused(422, f"The {WORDS[role]} is not completely here. Choose it again.")
        return self.path(upload_id)

    def remove(self, upload_id: str) -> None:
        """Delete it; nothing happens if it is not there."""
        shutil.rmtree(self.folder / upload_id, ignore_errors=True)

    def sweep(self, used: Collection[str], now: float | None = None) -> None:
        """Delete what no job uses (`used`: ids) and is older than a day."""
        oldest = (time.time() if now is None else now) - KEPT_S
        for home in self.folder.iterdir():
            try:
                if home.name not in used and home.stat().st_mtime < oldest:
                    self.remove(home.name)
            except OSError:
                continue  # removed by another thread or server meanwhile

    def _look_at(self, view: UploadView) -> None:
        path = self.path(view.id)
        try:
            facts = _facts(view.role, path)
        except Hallo4Error as error:
            self.remove(view.id)
            raise Refused(422, in_words_of_the_page(str(error), {path: view.name})) from error
        write_whole(self.folder / view.id / "facts.json", json.dumps(facts).encode())

    def _leave_room(self, count: int) -> None:
        """Refused: `count` more bytes leave too little of the disk."""
        if shutil.disk_usage(self.folder).free - count < _SPARE_BYTES:
            raise Refused(507, "The disk of the studio is full. Delete videos that you no longer need.")

    @contextmanager
    def _alone_with(self, upload_id: str, wait: bool) -> Iterator[None]:
        """Only one at a time, of all servers of the folder. Refused: no such upload, or another is at
        work and `wait` is false, as it is in the threads that answer requests."""
        self.view(upload_id)  # an id that is not here leaves no lock
        home = self.folder / upload_id
        with ExitStack() as held:
            try:
                held.enter_context(in_turn(home) if wait else sole_writer(home))
            except LockedError:
                raise Refused(
                    409, "Another piece of this file is being written. Ask how much was received."
                ) from None
            yield


def _facts(role: Role, path: Path) -> str:
    """What is seen in a file, in a few words. Hallo4Error: it cannot be used."""
    with collect_notes([]):  # the preview says them, with what they mean for the video
        if role == "portrait":
            height_px, width_px = load_image(path).shape[:2]
            return f"{width_px} × {height_px} pixels"
        if role == "voice":
            return f"{open_sound(path).duration_s:.1f} s of sound"
        if is_keypoints(path):
            skeleton = load_skeleton(path, assumed_size_px=(512, 512))
            return f"keypoints of {len(skeleton.points_px)} frames"
        info = probe_video(path)
    sound = "with sound" if info.has_audio else "without sound"
    return f"{info.duration_s:.1f} s of video, {info.width_px} × {info.height_px} pixels, {sound}"


def _suffix(name: str) -> str:
    """The suffix of a name where it is an ordinary one; nothing else of the name reaches the disk."""
    suffix = Path(name.replace("\\", "/")).suffix
    return suffix.lower() if _SUFFIX.fullmatch(suffix) else ""


def _shown(name: str) -> str:
    """A name as it can stand in a line: its last part, printable, not endless."""
    last = re.split(r"[\\/]", name)[-1] or "file"
    return "".join(letter if letter.isprintable() else "�" for letter in last)[:120]


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MB" if count < 2**30 else f"{count / 2**30:.1f} GB"
