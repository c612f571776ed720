"""A request -> a video of any length, window by window, in constant memory."""

from hallo4.pipelines.animator import PortraitAnimator
from hallo4.pipelines.convert import convert_release
from hallo4.pipelines.job import AnimationRequest
from hallo4.pipelines.model_folder import LoadedModel, load_model, save_model_folder
from hallo4.pipelines.model_info import DEFAULT_MODEL, ModelInfo, embedded_models, resolve_model
from hallo4.pipelines.model_outline import read_outline
from hallo4.pipelines.preview import preview
from hallo4.pipelines.progress import AnimationResult, Progress
from hallo4.pipelines.prompts import PromptEmbeddings

__all__ = [
    "DEFAULT_MODEL",
    "AnimationRequest",
    "AnimationResult",
    "LoadedModel",
    "ModelInfo",
    "PortraitAnimator",
    "Progress",
    "PromptEmbeddings",
    "convert_release",
    "embedded_models",
    "load_model",
    "preview",
    "read_outline",
    "resolve_model",
    "save_model_folder",
]
