"""Image sizes in pixels: one number for a square, or (height, width). A square has only the first form."""

from __future__ import annotations

Size = int | tuple[int, int]
WARP_FROM = 384  # classifiers see the whole picture, warped, in squares from here on; below, and else, a crop


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a size."""
    return (size, size) if isinstance(size, int) else size


def size_of(height: int, width: int) -> Size:
    """The size with these sides."""
    return height if height == width else (height, width)


def times(size: Size) -> str:
    """For people: 32x32, 192x352."""
    height, width = height_width(size)
    return f"{height}x{width}"


def brief(size: Size) -> str:
    """For tables: 32, 192x352."""
    return str(size) if isinstance(size, int) else times(size)


def as_value(size: Size) -> str:
    """As a command line has it: 32, [192,352]."""
    return str(size) if isinstance(size, int) else f"[{size[0]},{size[1]}]"


def in_proportion(size: Size, like: Size) -> Size:
    """A size as it is; but one number beside a `like` that is no square is the short side of its shape."""
    height, width = height_width(like)
    if not isinstance(size, int) or height == width:
        return size
    short = min(height, width)
    return size_of(round(size * height / short), round(size * width / short))
