"""What is known of a data set besides how to read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Counts(NamedTuple):
    """Identities, images and captions of a split."""

    ids: int
    images: int
    captions: int

    def __str__(self) -> str:
        return f'{self.ids:,} ids, {self.images:,} images, {self.captions:,} captions'


@dataclass(frozen=True)
class Layout:
    """What the class of a data set says of it in ``LAYOUT``.

    Args:
        name: Its published name.
        short_name: What ``tools/test.py --datasets`` calls it; None if it cannot be named there.
        root: Where a copy lies if nothing else is said.
        read_as: The ``dataset_type`` that reads any copy of it; None for the class itself.
        published: Counts of each split; under ``all`` those of the whole set, where no others are
            known. Empty for sets without published counts.
        superseded: Counts of a release that was withdrawn.
        captions_per_image: The usual number; None where any is usual.
        hints: What is known of this set, by kind of finding of ``check.py``.
    """

    name: str
    short_name: str | None = None
    root: str | None = None
    read_as: str | None = None
    published: Mapping[str, Counts] = field(default_factory=dict)
    superseded: Mapping[str, Counts] = field(default_factory=dict)
    captions_per_image: int | None = None
    hints: Mapping[str, str] = field(default_factory=dict)
