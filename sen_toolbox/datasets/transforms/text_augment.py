"""Augmentations of the captions as text."""

import random
import re
from pathlib import Path

from mmcv.transforms import BaseTransform

from sen_toolbox.checks import checked_share
from sen_toolbox.io import read_json
from sen_toolbox.messages import shown
from sen_toolbox.registry import TRANSFORMS

PUNCTUATION = re.compile(r'[.!"()*#:;~]')


@TRANSFORMS.register_module()
class CleanCaption(BaseTransform):
    """Lower-cases ``captions`` and replaces ``.!"()*#:;~`` by spaces; commas and hyphens stay.

    The characters are the TBPS-CLIP release's, for training and evaluation.
    """

    deterministic = True
    changes = frozenset({'captions'})
    rewrites_captions = True

    def transform(self, results: dict) -> dict:
        """Changes ``captions``; words are separated by single spaces."""
        results['captions'] = [
            ' '.join(PUNCTUATION.sub(' ', caption.lower()).split())
            for caption in results['captions']
        ]
        return results


@TRANSFORMS.register_module()
class DeleteWords(BaseTransform):
    """Deletes random words of ``captions`` (random deletion of EDA, arXiv:1901.11196).

    A caption of one word stays as it is, an empty one too; at least one word remains. Uses Python's
    ``random`` in the order of the TBPS-CLIP release, so that a seed gives its draws.

    Args:
        prob: Probability for each word, in 0..1. The TBPS-CLIP release takes 0.05.

    Raises:
        ValueError: If ``prob`` is not in 0..1.
    """

    changes = frozenset({'captions'})
    rewrites_captions = True

    def __init__(self, prob: float = 0.05) -> None:
        self.prob = checked_share('prob', prob)

    def transform(self, results: dict) -> dict:
        """Changes ``captions``."""
        results['captions'] = [self._delete(caption) for caption in results['captions']]
        return results

    def _delete(self, caption: str) -> str:
        words = caption.split()
        if len(words) < 2:
            return caption
        kept = [word for word in words if random.random() > self.prob]
        return ' '.join(kept or [random.choice(words)])


@TRANSFORMS.register_module()
class BackTranslate(BaseTransform):
    """Replaces ``captions`` by their translation to another language and back.

    The translations are made beforehand, by any means. Stands before transforms that change the
    captions, since a caption is looked up as the data set has it.

    Args:
        file: JSON object with the back-translation, or a list of them, by caption. None if there
            are none: the captions stay.
        prob: Probability for each caption, in 0..1. The TBPS-CLIP release takes 0.1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ``prob`` is not in 0..1 or the file holds something else.
    """

    changes = frozenset({'captions'})
    rewrites_captions = True
    reads_files = frozenset({'file'})

    def __init__(self, *, file: str | Path | None = None, prob: float = 0.1) -> None:
        self.file = file
        self.prob = checked_share('prob', prob)
        self.table = None if file is None else _read_table(Path(file))

    def transform(self, results: dict) -> dict:
        """Changes ``captions``.

        Raises:
            KeyError: If the file lacks one of the captions.
        """
        if self.table is not None:
            results['captions'] = [self._replace(caption) for caption in results['captions']]
        return results

    def _replace(self, caption: str) -> str:
        # Looked up in any case, so that a wrong file is noticed at once.
        table = self.table or {}
        if caption not in table:
            raise KeyError(
                f'{self.file} has no back-translation of {caption!r} (it has {len(table)}): '
                f'translate the captions of this data set, or set file=None'
            )
        return random.choice(table[caption]) if random.random() < self.prob else caption


def _read_table(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no file {path} of back-translated captions: make it, or set file=None'
        )
    table = read_json(path)
    if not isinstance(table, dict):
        raise ValueError(f'{path} holds a {type(table).__name__}, expected an object by caption')
    lists = {key: [value] if isinstance(value, str) else value for key, value in table.items()}
    for key, value in lists.items():
        if not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
            raise ValueError(
                f'{path}: the back-translation of {shown(key)} is {shown(value)}, expected text '
                f'or a list of texts'
            )
    return lists
