"""hallo4 for ComfyUI: put or link this folder into `custom_nodes/`; hallo4 must be installed there."""

from .nodes import Hallo4Animate, Hallo4Keypoints, Hallo4LoadModel

NODE_CLASS_MAPPINGS = {
    "Hallo4LoadModel": Hallo4LoadModel,
    "Hallo4Keypoints": Hallo4Keypoints,
    "Hallo4Animate": Hallo4Animate,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "Hallo4LoadModel": "hallo4: load model",
    "Hallo4Keypoints": "hallo4: keypoints of a person",
    "Hallo4Animate": "hallo4: animate portrait",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
