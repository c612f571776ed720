"""What is said over HTTP: the settings of a job, and how jobs, uploads, models and previews are shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["portrait", "voice", "motion"]
Consent = Literal["agreed", "no_real_person"]
Speed = Literal["full", "fast", "draft"]
Status = Literal["queued", "running", "done", "cancelled", "failed"]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""Random, so that the address of a picture or video is a secret of its own."""

CONSENT_FACTS: dict[Consent, str] = {
    "agreed": "whoever made this video said that the person shown agreed to it",
    "no_real_person": "whoever made this video said that it shows no real person",
}
"""What the provenance in the file says of an answer."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(_Record):
    """What is to be made. `portrait`, `voice` and `motion` are finished uploads; without `voice` the sound of
    the motion is used, without `motion` the person moves idly. `speed` chooses `steps` and `guidance_scale`
    where they are None; other fields that are None are left to the model."""

    portrait: Id
    voice: Id | None = None
    motion: Id | None = None
    model: str = Field("tiny-dit", min_length=1, max_length=200)
    seed: int = Field(0, ge=0, le=2**53 - 1)
    speed: Speed = "full"
    steps: int | None = Field(None, ge=1, le=1000)
    guidance_scale: float | None = Field(None, ge=0, le=100)
    prompt: str | None = Field(None, max_length=1000)
    negative_prompt: str | None = Field(None, max_length=1000)
    person: str | None = Field(None, min_length=1, max_length=40)
    fit_motion: bool = False
    scale: int = Field(1, ge=1, le=8)

    def uploads(self) -> dict[Role, str]:
        """Ids of the uploads that it needs, by role."""
        given = {"portrait": self.portrait, "voice": self.voice, "motion": self.motion}
        return {role: found for role, found in given.items() if found is not None}


class JobBody(_Record):
    """A job: its settings, the answer about consent, and a title."""

    settings: Settings
    consent: Consent
    title: str = Field("", max_length=120)


class UploadBody(_Record):
    """A file that is about to be sent."""

    role: Role
    name: str = Field(max_length=300)
    size: int = Field(ge=1)


class UploadView(_Record):
    """A file that was or is being sent: `received` of `size` bytes; `facts` in words once it is whole."""

    id: Id
    role: Role
    name: str
    size: int
    received: int
    complete: bool
    facts: str = ""
    address: str


class SpeedView(_Record):
    """What a speed means for a model; `times` as fast as at full quality, by passes through the network."""

    steps: int
    guidance_scale: float
    times: float


class ModelView(_Record):
    """A model that can be chosen: its speeds, and its own texts."""

    name: str
    description: str
    speeds: dict[Speed, SpeedView]
    takes_text: bool
    prompt: str
    negative_prompt: str


class ProgressView(_Record):
    """How far a job is: `done` of `total` frames in `stage`, about `left_s` more seconds."""

    stage: str
    done: float = 0.0
    total: int = 0
    left_s: float | None = None


class InputView(_Record):
    """One of the files that a job is made from."""

    id: Id
    name: str
    address: str


class JobView(_Record):
    """A job as the page shows it. Addresses are relative to the page's; `video` is there when it is done, or
    when it was cancelled and a part can be played."""

    id: Id
    title: str
    status: Status
    created: float
    settings: Settings
    consent: Consent
    inputs: dict[Role, InputView]
    ahead: int = 0
    stopping: bool = False
    progress: ProgressView | None = None
    text: str = ""
    notes: tuple[str, ...] = ()
    frames: int = 0
    took_s: float = 0.0
    video: str | None = None
    poster: str | None = None
    live: str | None = None


class LookView(_Record):
    """What would be made: the `picture` of the portrait under its first skeleton, length, and an estimate of
    time and memory (None: not known). The time is that of earlier videos like this where it is `measured`;
    else it is counted from the operations of the model, and it takes at least so long."""

    picture: str
    frames: int
    seconds: float
    width_px: int
    height_px: int
    expected_s: float | None
    measured: bool
    expected_bytes: int | None
    estimate: str
    notes: tuple[str, ...]


class JobsView(_Record):
    """All jobs, newest first."""

    jobs: tuple[JobView, ...]


class StudioView(_Record):
    """What this studio offers."""

    version: str
    models: tuple[ModelView, ...]
    devices: tuple[str, ...]
    chunk_bytes: int
    limit_bytes: dict[Role, int]
