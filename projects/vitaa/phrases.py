"""What a caption says of each part, from the release's files or by lists of words."""

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from projects.vitaa.attributes import PARTS
from sen_toolbox.messages import printable
from sen_toolbox.registry import TRANSFORMS
from sen_toolbox.text.registration import as_tokenizer
from sen_toolbox.text.tokens import Tokenizer, Tokens

# Classes of the release's files that are not parts themselves.
CLASSES = {'hair': 'head', 'hat': 'head', 'person': 'head', 'other': 'upperbody'}
CLASSES |= {part: part for part in PARTS}
# Nouns by part, for captions without files.
NOUNS = {
    'head': 'hair hat cap head face glasses beard ponytail',
    'upperbody': 'shirt t-shirt coat jacket top dress sweater blouse vest hoodie suit scarf',
    'lowerbody': 'trousers pants jeans shorts skirt leggings',
    'shoe': 'shoes shoe boots sneakers sandals heels',
    'backpack': 'bag backpack handbag purse suitcase rucksack',
}


class Attributes(BaseTransform):
    """Adds ``attribute_tokens``: for each of ``captions`` as many words of each part, side by side.

    For training alone: ``PackPair(per_caption=['attribute_tokens'])`` puts them into the batch. A
    part of which a caption says nothing has no token. Words that the tokenizer does not know are
    left out.

    Args:
        tokenizer: A tokenizer, or its config (TOKENIZERS).
        length: Words of a part.
    """

    changes = frozenset({'attribute_tokens'})

    def __init__(self, *, tokenizer: Tokenizer | Mapping, length: int = 25) -> None:
        self.tokenizer, self.length = as_tokenizer(tokenizer), length

    def transform(self, results: dict) -> dict:
        """Adds ``attribute_tokens``."""
        found = [self.phrases(results, caption) for caption in results['captions']]
        shape = len(found), len(PARTS), self.length
        ids = np.full(shape, self.tokenizer.special.pad, dtype=np.int64)
        mask = np.zeros(shape, dtype=bool)
        for row, phrases in enumerate(found):
            for column, part in enumerate(PARTS):
                words = [n for n in self.tokenizer.encode(' '.join(phrases.get(part, ())))]
                words = [n for n in words if n in self.tokenizer.words][: self.length]
                ids[row, column, : len(words)] = words
                mask[row, column, : len(words)] = True
        width = len(PARTS) * self.length
        end = np.zeros(len(found), dtype=np.int64)
        results['attribute_tokens'] = Tokens(ids.reshape(-1, width), mask.reshape(-1, width), end)
        return results

    def phrases(self, record: Mapping, caption: str) -> dict[str, Sequence[str]]:
        """Words of a caption by part."""
        raise NotImplementedError


@TRANSFORMS.register_module()
class FiledAttributes(Attributes):
    """:class:`Attributes` of the release's files.

    The file of a caption is ``<folder>/<path of the image, "-" for "/">-<number>.json`` below the
    data set's folder, captions of an image counted from 0: a list of dicts {class: [words]}.

    Args:
        data_root: The data set's folder.
        folder: Where the files are.
        images: Where images are.
        **options: Those of ``Attributes``.
    """

    def __init__(
        self,
        *,
        data_root: str,
        folder: str = 'text_attribute_graph',
        images: str = 'imgs',
        **options,
    ) -> None:
        super().__init__(**options)
        self.images, self.folder = Path(data_root, images), Path(data_root, folder)
        self._numbers: dict[tuple[str, str], int] = {}

    def see_pairs(self, pairs: Sequence[dict]) -> None:
        """Counts the captions of each image; the data set calls it with all training pairs."""
        self._numbers, counts = {}, {}
        for pair in pairs:
            path = pair['img_path']
            for caption in pair['captions']:
                self._numbers.setdefault((path, caption), counts.get(path, 0))
                counts[path] = counts.get(path, 0) + 1

    def phrases(self, record: Mapping, caption: str) -> dict[str, Sequence[str]]:
        """Words of a caption by part.

        Raises:
            KeyError: If the data set has not told its pairs, as in a test pipeline.
            FileNotFoundError: If there is no such file; says what does without.
            ValueError: If it holds something else; names it.
        """
        number = self._numbers.get((record['img_path'], caption))
        if number is None:
            raise KeyError('FiledAttributes is for the pipeline of a training split')
        image = Path(os.path.relpath(record['img_path'], self.images)).as_posix()
        path = self.folder / f'{image.replace("/", "-")}-{number}.json'
        if not path.is_file():
            raise FileNotFoundError(
                f'there are no phrases {printable(str(path))}: put those of the release there, or '
                'train without them by vitaa_words_r50_cuhk.py'
            )
        return read_phrases(path)


def read_phrases(path: Path) -> dict[str, list[str]]:
    """Words by part of one of the release's files, a Python literal.

    Raises:
        ValueError: If it holds something else; names it.
    """
    try:
        content = ast.literal_eval(path.read_text(encoding='utf-8'))
        entries = [entry for each in content for entry in each.items()]
        words = [(CLASSES[name], [str(word) for word in phrase]) for name, phrase in entries]
    except (ValueError, SyntaxError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(
            f'{printable(str(path))} must hold a list of dicts {{class: [words]}} with the classes '
            f'{sorted(CLASSES)}: {" ".join(str(error).split())}'
        ) from error
    found: dict[str, list[str]] = {}
    for part, phrase in words:
        found.setdefault(part, []).extend(phrase)
    return found


@TRANSFORMS.register_module()
class NamedAttributes(Attributes):
    """:class:`Attributes` without files: nouns of each part, with the words before them.

    Args:
        before: Words before a noun that belong to it.
        **options: Those of ``Attributes``.
    """

    def __init__(self, *, before: int = 2, **options) -> None:
        super().__init__(**options)
        self.before = before
        self._parts = {noun: part for part, nouns in NOUNS.items() for noun in nouns.split()}

    def phrases(self, record: Mapping, caption: str) -> dict[str, Sequence[str]]:
        """Words of a caption by part."""
        words = [word.strip('.,;:!?"()').lower() for word in caption.split()]
        found: dict[str, list[str]] = {}
        for place, word in enumerate(words):
            if part := self._parts.get(word):
                start = max(0, place - self.before)
                found.setdefault(part, []).extend(words[start : place + 1])
        return found
