"""Image files, through an indexing and through the transforms of training."""

import io
import random
from pathlib import Path

import numpy as np
from mmengine.dataset import Compose
from PIL import Image
from test_malformed_inputs import BROKEN, ODD
from test_search_index import MODEL, ColourEncoder

from sen_toolbox.datasets.transforms import LoadImage, PadCrop, RandomFlip, ResizeImage
from sen_toolbox.search.images import MAX_PIXELS
from sen_toolbox.search.index import open_index
from sen_toolbox.search.indexing import update_index

from .mutations import mangled
from .outcome import attempt, check_line, require

# How a picture is written, by a name; each is also a picture that is read.
KINDS = {
    'jpg': ('JPEG', 'RGB', {}), 'progressive.jpg': ('JPEG', 'RGB', dict(progressive=True)),
    'gray.jpg': ('JPEG', 'L', {}), 'cmyk.jpg': ('JPEG', 'CMYK', {}),
    'png': ('PNG', 'RGB', {}), 'palette.png': ('PNG', 'P', {}), 'alpha.png': ('PNG', 'RGBA', {}),
    'deep.png': ('PNG', 'I;16', {}), 'gif': ('GIF', 'P', {}), 'bmp': ('BMP', 'RGB', {}),
    'webp': ('WEBP', 'RGB', dict(lossless=True)), 'lossy.webp': ('WEBP', 'RGB', {}),
    'tiff': ('TIFF', 'RGB', {}), 'lzw.tiff': ('TIFF', 'RGB', dict(compression='tiff_lzw')),
    'deflate.tiff': ('TIFF', 'L', dict(compression='tiff_adobe_deflate')),
    'packbits.tiff': ('TIFF', '1', dict(compression='packbits')), 'avif': ('AVIF', 'RGB', {}),
}  # fmt: skip
# Looked at together, since an indexing has costs of its own.
TOGETHER = 6
FITTED = ResizeImage(size=(24, 12))
TRAINING = Compose([FITTED, RandomFlip(0.5), PadCrop(2)])


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def pictures() -> dict[str, bytes]:
    """A picture of each kind that this Pillow writes."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((20, 36))
    found = {}
    for name, (kind, mode, options) in KINDS.items():
        buffer = io.BytesIO()
        try:
            image.convert('L' if mode == 'I;16' else mode).convert(mode).save(
                buffer, kind, **options
            )
        except (KeyError, OSError):
            continue
        found[name] = buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', exif=turned())
    return {**found, 'turned.jpg': buffer.getvalue()}


class Images:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        self._pictures = pictures()
        self._whole = {name: self._read(name) for name in self._pictures}
        names = list({**BROKEN, **ODD})
        self.hostile = {
            names[start]: [({**BROKEN, **ODD}[name], None) for name in names[start : start + 8]]
            for start in range(0, len(names), 8)
        }

    def _read(self, name: str) -> np.ndarray:
        path = self.samples / name
        path.write_bytes(self._pictures[name])
        return LoadImage()({'img_path': str(path)})['img']

    def mutant(self, rng: random.Random) -> list[tuple[bytes, np.ndarray | None]]:
        """Some contents of files; with the pixels of what was cut off, which alone is known."""
        found = []
        for _ in range(TOGETHER):
            name = rng.choice(list(self._pictures))
            content = self._pictures[name]
            if rng.random() < 0.15:
                found.append((content[: rng.randrange(1, len(content))], self._whole[name]))
            else:
                found.append((mangled(rng, content, list(self._pictures.values())), None))
        return found

    def check(self, sample: list, folder: Path) -> bool:
        gallery = folder / 'gallery'
        gallery.mkdir()
        good = self._pictures['png']
        files = {gallery / f'{n}.png': content for n, (content, _) in enumerate(sample)}
        for path, content in {**files, gallery / 'a.png': good, gallery / 'z.png': good}.items():
            path.write_bytes(content)
        seen, refused = {}, {}
        for path, (_, whole) in zip(files, sample, strict=True):
            pixels, line = attempt(
                lambda path=path: LoadImage()({'img_path': str(path)})['img'], [str(path)]
            )
            if line is not None:
                refused[str(path)] = line
                continue
            require(pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, 'RGB')
            if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
                refused[str(path)] = 'too large'
                continue
            require(whole is None or np.array_equal(pixels, whole), f'half of {path} is read')
            seen[str(path)] = pixels
            prepared = TRAINING({'img': pixels})['img']
            require(prepared.shape == (24, 12, 3), f'prepared as {prepared.shape}')
        index = open_index(folder / 'index', MODEL)
        report = update_index(index, ColourEncoder(), gallery)
        require(
            set(report.skipped) == set(refused), f'{report.skipped} were skipped, not {refused}'
        )
        for problem in report.skipped.values():
            check_line(problem, [''])
        held = {entry.path: vector for entry, vector in index.items()}
        expected = {*seen, str(gallery / 'a.png'), str(gallery / 'z.png')}
        require(held.keys() == expected and len(index) == len(held), f'{expected - held.keys()}')
        encoder = ColourEncoder()
        for path, pixels in seen.items():
            [vector] = encoder.embed_prepared(encoder.prepare(pixels)[None])
            require(np.allclose(held[path], vector, atol=1e-5), f'{path} has another vector')
        return bool(refused)
