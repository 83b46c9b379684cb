"""Pictures inside the page, as small data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from lmmcl.data.pictures.picture import open_picture, upright

_SIDE = 320
_SMALL = 64 * 64


def data_uri(picture: Path | Image.Image | None) -> str:
    """A picture as a data URI, at most 320 pixels wide and high; "" where there is none or it cannot be read.

    Few colours or few pixels stay exact as PNG, all else becomes JPEG.
    """
    if picture is None:
        return ""
    try:
        whole = open_picture(picture, str(picture)) if isinstance(picture, Path) else upright(picture)
    except (OSError, ValueError):  # of a run that somebody else may have made
        return ""
    whole.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    exact = whole.width * whole.height <= _SMALL or whole.getcolors(maxcolors=256) is not None
    if exact:
        whole.save(data, format="PNG", optimize=True)
    else:
        whole.save(data, format="JPEG", quality=82)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
