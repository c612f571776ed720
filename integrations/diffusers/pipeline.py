"""hallo4 for diffusers: give this folder as `custom_pipeline` to `DiffusionPipeline.from_pretrained`."""

from hallo4.pipelines.diffusers_pipeline import Hallo4Pipeline

__all__ = ["Hallo4Pipeline"]
