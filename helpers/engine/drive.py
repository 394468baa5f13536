"""Google Drive for Google Colab, whose machines forget everything when they go."""

import os

PLACE = "/content/drive"
MIRROR = "COURSEWORK_MIRROR"  # an environment variable: where ``helpers.training.fit`` mirrors its runs


def keep_on_drive(wanted):
    """From now on, mirror every run to ``MyDrive/coursework``, where a fresh machine finds it; or no longer.

    Mounts Drive, which asks for permission. Raises RuntimeError outside Colab.
    """
    os.environ.pop(MIRROR, None)
    if wanted:
        try:
            from google.colab import drive
        except ImportError:
            raise RuntimeError("DRIVE = True works in Google Colab alone: set DRIVE = False here") from None
        drive.mount(PLACE)
        os.environ[MIRROR] = f"{PLACE}/MyDrive/coursework"
