"""How the figures of evaluations look."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from PIL import ImageFont

from hornet_train.track.durable_files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED = "#22262b", "#6b7280"
_LONGEST = 18  # characters of a name


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font, for what is drawn into pictures."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of (width, height) in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=130, layout="constrained")


def plain(axes: Any) -> None:
    """No frame, small grey labels."""
    axes.tick_params(labelsize=6.5, length=0, colors=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(False)


def short(name: str) -> str:
    """A name of at most eighteen characters."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def write_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, with the folders above it. Raises OSError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)  # a $ in a name is a $
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn in its place
        FigureCanvasAgg(figure).print_png(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, file.getvalue())
