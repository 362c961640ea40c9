"""Caches of tokens, pruned captions and images, damaged or replaced: always made again."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from test_image_cache import FORGED, Counting, sealed

from sen_toolbox.datasets import cache, image_cache
from sen_toolbox.datasets.cache import pruned_captions, token_ids
from sen_toolbox.datasets.image_cache import cache_images
from sen_toolbox.datasets.transforms import LoadImage, ResizeImage
from sen_toolbox.text.taggers import RuleTagger

from .mutations import mangled
from .outcome import attempt, require

CAPTIONS = ['a', 'red', 'a man in a red coat', 'blue']
KINDS = ('tokens', 'pruned', 'images')


class Caches:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        self._paths = []
        for number in range(3):
            path = samples / f'{number}.png'
            pixels = np.random.default_rng(number).integers(0, 256, (30, 11, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            self._paths.append(str(path))
        self._lines: list[str] = []
        self._first = {kind: self._kept(kind, samples / 'made') for kind in KINDS}
        self._bytes = {kind: self._file(kind, samples / 'made').read_bytes() for kind in KINDS}
        self.hostile = {
            name: ('tokens', self._writing(sealed(Counting(), sorted(CAPTIONS), content)))
            for name, content in FORGED.items()
        }

    def _writing(self, content: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(content)

    def mutant(self, rng: random.Random) -> tuple[str, Callable[[Path], object]]:
        """A kind of cache, and what happens to its file."""
        kind = rng.choice(KINDS)
        if rng.random() < 0.8:
            content = mangled(rng, self._bytes[kind], list(self._bytes.values()))
            return kind, self._writing(content)
        return kind, rng.choice([_link, _folder_link, _pipe, _endless, *BESIDE])

    def check(self, sample: tuple[str, Callable], folder: Path) -> bool:
        kind, damage = sample
        self._kept(kind, folder)
        path = self._file(kind, folder)
        whole = path.read_bytes()
        path.unlink()
        damage(path)
        self._lines.clear()
        again, line = attempt(lambda: self._kept(kind, folder), [str(folder)], (OSError,))
        if damage is _locked_elsewhere and kind == 'images':
            require(line is not None, 'a lock elsewhere is taken')
            return True
        require(line is None, f'refused: {line}')
        require(_same(again, self._first[kind]), f'another {kind}')
        told = [line for line in self._lines if str(path) in line and 'made again' in line]
        if damage not in BESIDE:
            require(len(told) == 1 and told[0].isprintable(), f'{path} was not told: {self._lines}')
        require(path.read_bytes() == whole and not path.is_symlink(), 'the file is not as before')
        if damage is _link:
            require((path.parent / 'linked').read_text() == 'mine', 'what a link leads to changed')
        return True

    def _kept(self, kind: str, folder: Path) -> Any:
        def note(text: str, **_: object) -> None:
            self._lines.append(text)

        with (
            mock.patch.object(cache, 'print_log', note),
            mock.patch.object(image_cache, 'print_log', note),
            mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder / 'of the user')),
        ):
            return self._read(kind, folder)

    def _read(self, kind: str, folder: Path) -> Any:
        if kind == 'tokens':
            table = token_ids(CAPTIONS, tokenizer=Counting(), data_root=folder)
            return {caption: ids.tolist() for caption, ids in table.items()}
        if kind == 'pruned':
            return pruned_captions(CAPTIONS, tagger=RuleTagger(), data_root=folder)
        steps = [LoadImage(), ResizeImage(size=(24, 8))]
        taken = cache_images(self._paths, steps, folder=folder)
        return [taken({'img_path': path})['img'] for path in self._paths]

    def _file(self, kind: str, folder: Path) -> Path:
        pattern = 'images_*.npy' if kind == 'images' else f'.sen_cache/{kind}_*.kept'
        [path] = folder.glob(pattern)
        return path


def _same(found: Any, expected: Any) -> bool:
    return found == expected if isinstance(found, dict) else np.array_equal(found, expected)


def _link(path: Path) -> None:
    # Beside the cache; whoever has linked it to another disk may do so.
    (path.parent / 'linked').write_text('mine')
    path.symlink_to(path.parent / 'linked')


def _folder_link(path: Path) -> None:
    path.symlink_to(Path('evil').absolute())


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**26)


def _begun_elsewhere(path: Path) -> None:
    path.with_suffix('.partial').symlink_to(Path('victim.txt').absolute())


def _begun_as_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix('.partial'))


def _locked_elsewhere(path: Path) -> None:
    lock = path.with_name(path.name.rpartition('_')[0] + '.lock')
    lock.unlink(missing_ok=True)
    lock.symlink_to(Path('victim.txt').absolute())


# Of these the file itself knows nothing.
BESIDE = (_begun_elsewhere, _begun_as_pipe, _locked_elsewhere)
