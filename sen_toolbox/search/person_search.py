"""Search a gallery of people by description or by picture, from Python."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sen_toolbox.search.images import read_image
from sen_toolbox.search.index import open_index
from sen_toolbox.search.indexing import Encoder, IndexReport, update_index

# Trained on drawn people: shows how all this works, and finds colours of clothes on real ones.
SHIPPED_MODEL = Path(__file__).parent / 'models' / 'tiny.safetensors'
DEFAULT_INDEX = 'sen_index'
PathLike = str | os.PathLike


@dataclass(frozen=True)
class Result:
    """One person that a search found.

    Attributes:
        rank: From 1.
        score: Cosine of query and image, in -1..1.
        path: Absolute path of the image file.
        identity: Who it is, if the index was told.
        place: Where in the file, as JSON values; empty for the whole of an image.
    """

    rank: int
    score: float
    path: str
    identity: str | None = None
    place: Mapping = field(default_factory=dict)


class PersonSearch:
    """A model and a gallery that it searches.

    >>> search = PersonSearch(index='/tmp/gallery_index')         # doctest: +SKIP
    >>> search.index('crops')                                     # doctest: +SKIP
    >>> search.search('a woman in a red coat', k=3)[0].path       # doctest: +SKIP
    '/home/me/crops/0042.jpg'

    Args:
        model: A model file (``.safetensors``), or a config together with ``checkpoint``, or a built
            encoder. None for the small model that is shipped.
        checkpoint: Checkpoint of the config.
        index: Folder of the index; with ``uri`` the name of a collection.
        uri: Address of a Milvus server or cluster, or a file ``*.db`` for Milvus Lite. None for a
            folder.
        device: Where to compute; on a GPU in float16.
        half_index: Whether a new folder stores float16: half the disk and search time.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the model is damaged or does not fit.
    """

    def __init__(
        self,
        model: PathLike | Encoder | None = None,
        *,
        checkpoint: PathLike | None = None,
        index: PathLike = DEFAULT_INDEX,
        uri: str | None = None,
        device: str = 'cpu',
        half_index: bool = False,
    ) -> None:
        self.encoder = load_encoder(model, checkpoint, device=device)
        self.gallery = open_index(index, self.encoder.model_id, uri=uri, half=half_index)

    def index(
        self,
        source: PathLike | Iterable[PathLike],
        *,
        ids: Mapping[PathLike, object] | None = None,
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Brings the index in line with a folder, or with a list of files and folders.

        New and changed files are embedded, entries of files that are gone are removed, all others
        stay. An interrupted call is continued by the next.

        Args:
            source: A folder, or files and folders.
            ids: Who is in a file, by its path; files that are not named stay unknown.
            batch_size: Files that are embedded and committed at once.
            progress: Called with the files done and to do.

        Raises:
            FileNotFoundError: If a folder does not exist or holds no images.
            BlockingIOError: If another process is writing the index.
            ValueError: If another model made the index; names both.
        """
        identities = {os.path.abspath(os.fspath(p)): str(who) for p, who in (ids or {}).items()}
        return update_index(
            self.gallery,
            self.encoder,
            source,
            identities=identities,
            batch_size=batch_size,
            progress=progress,
        )

    def search(
        self,
        text: str | Sequence[str] | None = None,
        image: PathLike | np.ndarray | Sequence[PathLike | np.ndarray] | None = None,
        *,
        k: int = 10,
        within: PathLike | None = None,
        approximate: bool = False,
    ) -> list[Result] | list[list[Result]]:
        """The best persons for a sentence, a picture, or both together.

        Args:
            text: A sentence, or a list of them.
            image: An image file or RGB array (H, W, 3) uint8, or a list of them. With ``text``, of
                the same number; the query is then the mean of both embeddings.
            k: How many, from 1; fewer if the gallery is smaller.
            within: A folder to stay in.
            approximate: Whether to trade recall for speed, once the gallery has been prepared by
                ``gallery.build_approximate()``.

        Returns:
            Results, best first; for lists one list of results a query.

        Raises:
            ValueError: If there is no query, a sentence is empty, ``k`` is below 1, an image cannot
                be decoded, or another model made the index.
            FileNotFoundError: If there is no index yet.
        """
        if k < 1:
            raise ValueError(f'k is a number of results from 1, got {k}')
        given = [value for value in (text, image) if value is not None]
        if not given:
            raise ValueError('there is nothing to search for: give a text, an image, or both')
        many = isinstance(given[0], Sequence) and not isinstance(given[0], str)
        texts, images = ([v] if v is not None and not many else v for v in (text, image))
        queries = self.embed(texts, images)
        found = self.gallery.search(
            queries,
            k,
            within=None if within is None else os.path.abspath(os.fspath(within)),
            approximate=approximate,
        )
        results = [
            [
                Result(rank, score, entry.path, entry.identity, entry.place)
                for rank, (entry, score) in enumerate(hits, start=1)
            ]
            for hits in found
        ]
        return results if many else results[0]

    def embed(
        self,
        texts: Sequence[str] | None,
        images: Sequence[PathLike | np.ndarray] | None = None,
    ) -> np.ndarray:
        """L2-normalised embeddings (Q, D) of queries: sentences, images, or the mean of each pair.

        Raises:
            ValueError: If a query is empty or cannot be decoded, or the lists differ in length.
        """
        parts = []
        if texts is not None:
            for sentence in texts:
                if not sentence.strip():
                    raise ValueError('the description is empty: write what the person looks like')
            # A command line hands over bytes that are no text as lone surrogates.
            clean = [sentence.encode('utf-8', 'replace').decode() for sentence in texts]
            parts.append(self.encoder.embed_text(clean))
        if images is not None:
            inputs = [self.encoder.prepare(_pixels(image)) for image in images]
            parts.append(self.encoder.embed_prepared(np.stack(inputs)))
        if len({len(part) for part in parts}) != 1:
            raise ValueError(
                f'pairs take as many texts as images, got {len(texts or [])} and '
                f'{len(images or [])}'
            )
        total = np.sum(parts, axis=0)
        return total / np.linalg.norm(total, axis=1, keepdims=True)

    def __len__(self) -> int:
        """Number of persons in the gallery."""
        return len(self.gallery)


def load_encoder(
    model: PathLike | Encoder | None = None,
    checkpoint: PathLike | None = None,
    *,
    device: str = 'cpu',
) -> Encoder:
    """The encoder of a model file, or of a config and its checkpoint; None for the shipped model.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or does not fit.
    """
    if model is not None and not isinstance(model, str | os.PathLike):
        return model
    # Imported here because it loads torch, which other forms of a model do without.
    from sen_toolbox.search.towers import TowerEncoder

    return TowerEncoder(model or SHIPPED_MODEL, checkpoint, device=device)


def _pixels(image: PathLike | np.ndarray) -> np.ndarray:
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f'an image is RGB (H, W, 3) uint8, got {image.shape} {image.dtype}')
        return image
    if not os.path.exists(image):
        raise FileNotFoundError(f'there is no image {os.fspath(image)}')
    try:
        return read_image(image)
    except ValueError as error:
        raise ValueError(f'{os.fspath(image)} {error}') from error
