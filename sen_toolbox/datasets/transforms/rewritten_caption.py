"""A rewritten version of each caption in each training sample."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeGuard

from mmcv.transforms import BaseTransform

from sen_toolbox.io import read_json
from sen_toolbox.messages import printable, shown
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer


@TRANSFORMS.register_module()
class RewrittenCaption(BaseTransform):
    """Adds ``second_tokens``, of a rewritten version of each caption, drawn anew each time.

    ICL, CVPR 2025, its reorganised captions. A version is a text, or parts of which each was
    rewritten several times: one text of each part is drawn, and they follow each other in random
    order. For training alone. ``PackPair(per_caption=['second_tokens'])`` puts the tokens into the
    batch.

    Uses Python's ``random`` in the order of the release.

    Args:
        tokenizer: A tokenizer, or its config (TOKENIZERS).
        file: JSON list of records with the path of an image below the folder of images, its
            ``captions``, and ``diversity_captions``: for each caption a text, or a list of parts,
            which are lists of texts. ICL's files of annotations are such.
        path_key: Key of the path in its records.
    """

    changes = frozenset({'second_tokens'})

    def __init__(
        self, *, tokenizer: Tokenizer | Mapping, file: str | Path, path_key: str = 'file_path'
    ) -> None:
        self.tokenizer = as_tokenizer(tokenizer)
        self.file = Path(file)
        self.path_key = path_key
        self._versions: dict[tuple[str, str], str | list[list[str]]] | None = None

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Reads the versions of all training pairs; the data set calls it with those.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or lacks a caption of an image.
        """
        table = self._read()
        self._versions = {}
        for pair in pairs:
            path, [caption] = pair['img_path'], pair['captions']
            parts = PurePath(path).parts
            # The longest end of the path that the file knows.
            ends = ('/'.join(parts[start:]) for start in range(len(parts)))
            versions = next((table[end] for end in ends if end in table), {})
            if caption not in versions:
                raise ValueError(
                    f'{self.file} has no rewritten version of the caption {shown(caption)} of '
                    f'{printable(path)}: it belongs to other annotations, or captions were '
                    f'shuffled (noise_rate)'
                )
            self._versions[path, caption] = versions[caption]

    def transform(self, results: dict) -> dict:
        """Adds ``second_tokens``, one row for each of ``captions``.

        Raises:
            KeyError: If the data set has not told its pairs, as in a test pipeline.
        """
        if self._versions is None:
            raise KeyError('RewrittenCaption is for the pipeline of a training split')
        path = results['img_path']
        texts = [draw_version(self._versions[path, caption]) for caption in results['captions']]
        results['second_tokens'] = self.tokenizer(texts)
        return results

    def _read(self) -> dict[str, dict[str, str | list[list[str]]]]:
        """Versions by caption by image."""
        if not self.file.is_file():
            raise FileNotFoundError(
                f'there is no file {self.file} of rewritten captions: put it there, or set the '
                f'file of RewrittenCaption to its path'
            )
        records = read_json(self.file)
        if not isinstance(records, list):
            raise ValueError(
                f'{self.file} holds a {type(records).__name__}, expected a list of records'
            )
        return dict(self._versions_of(raw, number) for number, raw in enumerate(records))

    def _versions_of(self, raw: object, number: int) -> tuple[str, dict]:
        where = f'{self.file}: record {number}'
        if not isinstance(raw, dict) or not isinstance(path := raw.get(self.path_key), str):
            raise ValueError(f'{where} has no {self.path_key}')
        captions, versions = raw.get('captions'), raw.get('diversity_captions', [])
        if not is_list_of_texts(captions) or not isinstance(versions, list):
            raise ValueError(f'{where} has captions or diversity_captions that are not lists')
        # Those of other splits may have none.
        if versions and len(versions) != len(captions):
            raise ValueError(
                f'{where} has {len(captions)} captions and {len(versions)} diversity_captions'
            )
        for version in versions:
            if not is_version(version):
                raise ValueError(
                    f'{where} has a diversity caption {shown(version)}, expected a text or a list '
                    f'of lists of texts'
                )
        return path, dict(zip(captions, versions, strict=False))


def draw_version(version: str | list[list[str]]) -> str:
    """The text of a version, of each of its parts one."""
    if isinstance(version, str):
        return version
    parts = list(version)
    random.shuffle(parts)
    return ' '.join(random.choice(texts) for texts in parts)


def is_version(value: object) -> bool:
    """Whether a value is a text, or at least one part with at least one text each."""
    if isinstance(value, str):
        return True
    if not isinstance(value, list) or not value:
        return False
    return all(is_list_of_texts(part) and len(part) > 0 for part in value)


def is_list_of_texts(value: object) -> TypeGuard[list[str]]:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
