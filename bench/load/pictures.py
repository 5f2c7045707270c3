"""Pictures to ask about: of any size, small as files, and another one each time, so that no cache knows it."""

import base64
import io
import random

from PIL import Image

DETAIL = 4  # spots of one colour along each side


def picture(width: int, height: int, dice: random.Random) -> str:
    """A JPEG of so many pixels, as a data URL.

    Its spots run into each other: flat blocks make a small file, so that a client beside the server that it loads
    spends little on sending it, while the work of encoding depends on the number of pixels alone.
    """
    spots = Image.frombytes("RGB", (DETAIL, DETAIL), dice.randbytes(3 * DETAIL**2))
    file = io.BytesIO()
    spots.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=40, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
