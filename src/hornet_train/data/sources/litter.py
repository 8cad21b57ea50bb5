"""What file servers and operating systems put beside pictures: never a class, never a sample."""

from __future__ import annotations

_NAMES = frozenset(
    (
        "@eadir",  # Synology: thumbnails that are called like the pictures
        "@recently-snapshot",  # QNAP
        "@recycle",
        "@sharesnap",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",  # Windows
        "system volume information",
        "thumbs.db",
        "desktop.ini",
        "__macosx",  # macOS: in archives that it packed
        "network trash folder",
        "temporary items",
        "lost+found",  # file systems of Linux
    )
)


def is_litter(name: str) -> bool:
    """Whether a file or folder is of the system, or hidden: `@eaDir`, `__MACOSX`, `#recycle`, `._x.jpg`."""
    return name.startswith(".") or name.casefold() in _NAMES
