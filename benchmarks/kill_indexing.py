"""Kills an indexing at random moments and checks the index each time.

In every round some images are added, changed and deleted, a child process indexes the folder, and
is killed (SIGKILL) around a commit. Afterwards the index must open and hold, for each batch that
the child reported, or was just writing, its vectors and no others. At the end the index must equal
one that was never disturbed. The model is a stand-in that sees the mean colours.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sen_toolbox.search.images import read_image
from sen_toolbox.search.index import GalleryIndex, ModelId, open_index
from sen_toolbox.search.indexing import update_index

BATCH = 4


class ColourEncoder:
    """Embeds an image as its colours at 8 x 4 pixels; sentences as their bytes."""

    model_id = ModelId('colours', 'colours-8x4', 96)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The image at 8 x 4 pixels."""
        return np.asarray(Image.fromarray(image).resize((4, 8)))

    def embed_prepared(self, images: np.ndarray) -> np.ndarray:
        """Unit vectors of the colours."""
        flat = images.reshape(len(images), -1).astype(np.float32) + 1
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def embed_text(self, sentences: list[str]) -> np.ndarray:
        """Unit vectors of the bytes."""
        rows = [np.resize(np.frombuffer(text.encode(), np.uint8), 96) for text in sentences]
        return self.embed_prepared(np.stack(rows))


def draw(path: Path, rng: random.Random) -> None:
    """An image of random colours; never twice the same."""
    cells = bytes(rng.randrange(256) for _ in range(96))
    Image.frombytes('RGB', (4, 8), cells).resize((24, 48), 0).save(path)


def expected(path: str) -> np.ndarray:
    """The vector of an image file."""
    encoder = ColourEncoder()
    return encoder.embed_prepared(encoder.prepare(read_image(path))[None])[0]


def say(done: int, total: int) -> None:
    """Reports a batch after its commit."""
    print(done, total, flush=True)


def index_folder(folder: Path, index: Path, progress: Callable | None = None) -> None:
    """Brings the index in line with the folder."""
    update_index(
        open_index(index, ColourEncoder.model_id),
        ColourEncoder(),
        folder,
        batch_size=BATCH,
        progress=progress,
    )


def kill_once(folder: Path, index: Path, rng: random.Random) -> tuple[bool, int]:
    """Starts an indexing and kills it; whether it still ran, and the files it had reported."""
    command = [sys.executable, __file__, '--child', str(folder), str(index)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    reported = 0
    # The first line only says that the child has begun.
    for _ in range(1 + rng.randrange(4)):
        line = child.stdout.readline()
        reported = int(line.split()[0]) if line else reported
    time.sleep(rng.random() * 0.03)
    child.send_signal(signal.SIGKILL)
    for line in child.stdout:
        reported = int(line.split()[0])
    return child.wait() == -signal.SIGKILL, reported


def contents(index: GalleryIndex) -> dict[str, bytes]:
    """Vectors by path."""
    return {entry.path: vector.tobytes() for entry, vector in index.items()}


def check(
    index: Path, before: dict[str, bytes], work: dict[str, bytes | None], reported: int
) -> dict[str, bytes]:
    """Compares an index after a kill with what was there and what was being done.

    Args:
        index: The index.
        before: Vectors by path before the child started.
        work: New vector by path, in the child's order; None for deleted files.
        reported: How many changes the child had reported.

    Returns:
        The vectors by path that the index holds.
    """
    if not index.exists():
        assert reported == 0
        return {}
    try:
        after = contents(open_index(index, ColourEncoder.model_id))
    except FileNotFoundError:  # killed before the index was made
        assert reported == 0 and not before
        return {}
    gone = {path for path, vector in work.items() if vector is None}
    new = [path for path, vector in work.items() if vector is not None]
    # Deletions come first, and at once.
    states = [before, {p: v for p, v in before.items() if p not in gone}]
    for start in range(0, len(new), BATCH):
        states.append({**states[-1], **{p: work[p] for p in new[start : start + BATCH]}})
    first = 1 + -(-reported // BATCH) if reported else 0
    assert after in states[first : first + 2 + (not reported)], (
        f'{reported} files were reported; the index holds {len(after)} entries, which is neither '
        'the state of that batch nor of the next'
    )
    return after


def run(kills: int, images: int, seed: int) -> None:
    """Changes, kills and checks until enough children were killed."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as root:
        folder, index = Path(root, 'images'), Path(root, 'index')
        folder.mkdir()
        for number in range(images):
            draw(folder / f'{number:05d}.png', rng)
        held: dict[str, bytes] = {}
        killed = number = 0
        while killed < kills:
            paths = sorted(folder.iterdir())
            for path in rng.sample(paths, 6):
                draw(path, rng)
            rng.choice(paths).unlink()
            draw(folder / f'{images + number:05d}.png', rng)
            number += 1
            wanted = {str(p): expected(str(p)).tobytes() for p in sorted(folder.iterdir())}
            work = {path: vector for path, vector in wanted.items() if held.get(path) != vector}
            work |= {path: None for path in held if path not in wanted}
            was_killed, reported = kill_once(folder, index, rng)
            killed += was_killed
            held = check(index, held, work, reported)
        index_folder(folder, index)
        index_folder(folder, Path(root, 'undisturbed'))
        final = contents(open_index(index, ColourEncoder.model_id))
        assert final == contents(open_index(Path(root, 'undisturbed'), ColourEncoder.model_id))
        assert final == {p: expected(p).tobytes() for p in map(str, folder.iterdir())}
        print(f'{killed} kills in {number} rounds; {len(final)} entries as never disturbed')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--images', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--child', nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        say(0, 0)
        index_folder(*args.child, progress=say)
    else:
        run(args.kills, args.images, args.seed)


if __name__ == '__main__':
    main()
