"""A store with real little clips of three systems, in three containers, that say who made them."""

import hashlib

import numpy as np

from hallo4.media import VideoWriter, provenance_record, save_wav
from hallo4.preference import Clip, Condition, GoldAnswer, PreferenceStore

SYSTEMS = {"secretnet-alpha": ".mp4", "wavy-beta": ".webm", "gamma9-dpo": ".mkv"}
CONDITIONS, FRAMES, WIDTH, HEIGHT = 4, 20, 40, 32


def picture(condition: int, system: int, frame: int) -> np.ndarray:
    """[32, 40, 3] uint8: a smooth pattern that moves, and differs from system to system."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    wave = 127 + 90 * np.sin(across / 6 + frame / 2 + condition)
    return np.stack([wave, 40 + 80 * system + down, np.full_like(wave, 30 * condition)], -1).astype(np.uint8)


def make_store(folder, hum):
    store = PreferenceStore.create(folder)
    for c in range(CONDITIONS):
        name = f"condition-{c}"
        home = folder / "conditions" / name
        home.mkdir()
        (home / "portrait.png").write_bytes(b"never read")
        save_wav(home / "speech.wav", hum(FRAMES / 25))
        where = f"conditions/{name}"
        store.add_condition(
            Condition(name, f"person-{c}", f"words-{c}", f"{where}/portrait.png", f"{where}/speech.wav", None)
        )
        for s, (system, suffix) in enumerate(SYSTEMS.items()):
            clip_id = f"{name}-{system}"
            path = folder / "clips" / f"{clip_id}{suffix}"
            made_by = provenance_record(system, "7.7", 4711)
            crf = 17 + 3 * s if suffix != ".mkv" else None
            with VideoWriter(path, WIDTH, HEIGHT, audio=hum(0.8), provenance=made_by, crf=crf) as writer:
                for frame in range(FRAMES):
                    writer.write(picture(c, s, frame))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            store.add_clip(
                Clip(clip_id, name, system, 4711 + s, f"checkpoint-of-{system}", {"guidance": 3.25},
                     f"clips/{path.name}", digest, 25.0, FRAMES, WIDTH, HEIGHT, "procedural", None)
            )  # fmt: skip
    store.add_gold(GoldAnswer("condition-0-gamma9-dpo", "condition-0-wavy-beta", "fidelity", "a"))
    return folder
