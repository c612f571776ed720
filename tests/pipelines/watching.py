"""Parts of a model that note what passes through them, and a kill at a certain frame."""


class Killed(BaseException):
    """Nothing in the package catches it, like a kill."""


def kill_at(frames):
    def on_progress(progress):
        if progress.stage == "generate" and progress.frames_done > frames:
            raise Killed

    return on_progress


class Watching:
    """An autoencoder or backbone that notes what passes through it; `conditions`: one for each window and
    side of guidance."""

    def __init__(self, inner):
        self.inner, self.encoded, self.batches, self.conditions = inner, [], [], []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode_video(self, video_pm1):
        self.encoded.append(video_pm1)
        return self.inner.encode_video(video_pm1)

    def __call__(self, latents, timestep, conditions, cache):
        if not any(conditions is seen for seen in self.conditions):
            self.conditions.append(conditions)
        self.batches.append(len(latents))
        return self.inner(latents, timestep, conditions, cache)
