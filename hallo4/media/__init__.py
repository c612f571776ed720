"""Bytes <-> arrays: pictures, sound and video through Pillow, soundfile, soxr and PyAV; numpy only, no torch.

Colours are 8-bit sRGB, sound is mono float32, time is in seconds from the beginning of the file. What a
file lacks raises `InputError`; what is repaired on the way (an animation cut to its first picture, sound
louder than full scale) is said in a `MediaWarning` of one line.
"""

from hallo4.media.audio import load_audio, open_sound, save_wav
from hallo4.media.files import MediaWarning, check_input, collect_notes
from hallo4.media.image import load_image
from hallo4.media.provenance import provenance_record, read_provenance
from hallo4.media.sound_track import SoundTrack
from hallo4.media.spooled_sound import SpooledSound, resampled
from hallo4.media.timing import StreamTimes, stream_times
from hallo4.media.video import VideoInfo, probe_video, read_frames, read_frames_at
from hallo4.media.writer import VIDEO_SUFFIXES, VideoWriter, WrittenVideo, check_output

__all__ = [
    "VIDEO_SUFFIXES",
    "MediaWarning",
    "SoundTrack",
    "SpooledSound",
    "StreamTimes",
    "VideoInfo",
    "VideoWriter",
    "WrittenVideo",
    "check_input",
    "check_output",
    "collect_notes",
    "load_audio",
    "load_image",
    "open_sound",
    "probe_video",
    "provenance_record",
    "read_frames",
    "read_frames_at",
    "read_provenance",
    "resampled",
    "save_wav",
    "stream_times",
]
