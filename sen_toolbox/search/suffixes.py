"""What files are called, in lower case, that are taken from a folder."""

import os

# As many as sen_toolbox.pictures decodes.
IMAGE_SUFFIXES = frozenset(
    {'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.gif', '.tif', '.tiff', '.avif'}
)
VIDEO_SUFFIXES = frozenset(
    {'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv'}
)


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file is called like a video."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES
