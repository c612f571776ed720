"""An encoder that worker processes can import, and that some videos end."""

import os
import signal

from hallo4.data.encode import ClipEncoder


class DeadlyEncoder(ClipEncoder):
    """Kills its process when it meets person 4."""

    def _sound(self, path, clip):
        if path.stem == "person4":
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._sound(path, clip)
