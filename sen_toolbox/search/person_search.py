"""Search a gallery of people by description or by picture, from Python."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sen_toolbox.checks import checked_at_least
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.search.images import read_image
from sen_toolbox.search.index import Entry, open_index
from sen_toolbox.search.index_folder import check_crops, crops_folder
from sen_toolbox.search.index_model import model_of_index
from sen_toolbox.search.indexing import WHOLE_IMAGES, Encoder, IndexReport, Reading, update_index
from sen_toolbox.search.removal import Removal, remove_sources
from sen_toolbox.search.result import Result
from sen_toolbox.search.shard import Shard
from sen_toolbox.search.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from sen_toolbox.search.detection import Detector

DEFAULT_INDEX = 'sen_index'
# How many of the best are put into a new order by re-ranking.
CANDIDATES = 100
PathLike = str | os.PathLike


class PersonSearch:
    """A model and a gallery that it searches.

    >>> search = PersonSearch(index='/tmp/gallery_index')         # doctest: +SKIP
    >>> search.index('crops')                                     # doctest: +SKIP
    >>> search.search('a woman in a red coat', k=3)[0].path       # doctest: +SKIP
    '/home/me/crops/0042.jpg'

    Args:
        model: A model file (``.safetensors``), an exported one (``.onnx``), a model of open_clip by
            name (``open_clip:ViT-B-16/openai``, ``hf-hub:ORG/NAME``), or a config together with
            ``checkpoint``, or a built encoder. None for the model by name that made the index, if
            it was used on this machine before, or else for the small one that is shipped.
        checkpoint: Checkpoint of the config.
        index: Folder of the index; with ``uri`` the name of a collection, and of the folder for
            crops.
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
        if isinstance(model, str | os.PathLike | None):
            named = model_of_index(index, uri) if model is None and checkpoint is None else None
            # An index chooses among models that are here and downloads none.
            self.encoder: Encoder = load_encoder(
                model or named, checkpoint, device=device, download=named is None
            )
        else:
            self.encoder = model
        self._device = device
        self._crops = crops_folder(index)
        self.gallery = open_index(index, self.encoder.model_id, uri=uri, half=half_index)

    def index(
        self,
        source: PathLike | Iterable[PathLike],
        *,
        ids: Mapping[str, object] | Mapping[os.PathLike, object] | None = None,
        batch_size: int = 64,
        detect: 'PathLike | Detector | None' = None,
        every: float = 1.0,
        reindex: bool = False,
        shard: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        video_progress: Callable[[str, float], None] | None = None,
    ) -> IndexReport:
        """Brings the index in line with a folder, or with a list of files and folders.

        New and changed files are embedded, entries of files that are gone are removed, all others
        stay. An interrupted call is continued by the next.

        Args:
            source: A folder, or files and folders.
            ids: Who is in a file, by its path; files that are not named stay unknown.
            batch_size: Files that are embedded and committed at once.
            detect: None if each image is a crop of one person. Otherwise people are cut out of
                photos and videos, each of which is committed by itself: 'hog' for OpenCV's
                detector, which needs no file; a file with weights of torchvision.models.detection;
                or a detector.
            every: Seconds from one frame of a video to the next that is looked at.
            reindex: Whether files that were indexed in another way, with or without ``detect``, by
                another detector or ``every``, lose their entries for new ones.
            shard: Which part of the files to index, '1/4' to '4/4' for four machines that share a
                collection. Files of other parts are left as they are.
            progress: Called with the files done and to do.
            video_progress: Called with a video's path and the share of it that was looked at.

        Raises:
            FileNotFoundError: If a folder does not exist or holds no images, or there is no such
                detector.
            BlockingIOError: If another process is writing the index.
            ValueError: If another model made the index; names both. If ``every`` is not above 0.
                If a source lies in the folder of the index, or, without ``reindex``, files were
                indexed in another way. If there is no such shard.
        """
        identities = {os.path.abspath(os.fspath(p)): str(who) for p, who in (ids or {}).items()}
        reading, part = WHOLE_IMAGES, None if shard is None else Shard.parse(shard)
        check_crops(self._crops)
        if detect is not None:
            # Imported here because it loads OpenCV, which a query does without.
            from sen_toolbox.search.detection import PersonCutter, open_detector

            cut = PersonCutter(
                detect if callable(detect) else open_detector(detect, device=self._device),
                self._crops,
                every=every,
                progress=video_progress,
            )
            suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
            reading = Reading(cut.read, suffixes, cut.recipe, max_bytes=math.inf, parallel=False)
        report = update_index(
            self.gallery,
            self.encoder,
            source,
            identities=identities,
            batch_size=batch_size,
            reading=reading,
            reindex=reindex,
            excluded=[self._crops],
            shard=part,
            progress=progress,
        )
        if self._crops.is_dir():
            from sen_toolbox.search.detection.record import prune

            # Whoever writes now will do it.
            with suppress(BlockingIOError), self.gallery.writing():
                prune(self._crops, self.gallery.files())
        return report

    def remove(self, sources: PathLike | Iterable[PathLike]) -> Removal:
        """Forgets what is indexed of some files and folders, which may be gone.

        Raises:
            BlockingIOError: If another process is writing the index.
            ValueError: If the index holds nothing of a source; nothing is removed then.
        """
        return remove_sources(self.gallery, self._crops, sources)

    def search(
        self,
        text: str | Sequence[str] | None = None,
        image: PathLike | np.ndarray | Sequence[PathLike | np.ndarray] | None = None,
        *,
        k: int = 10,
        within: PathLike | None = None,
        approximate: bool = False,
        rerank: str | None = None,
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
            rerank: 'k_reciprocal' or 'query_expansion' to order the hundred best by how alike they
                are among themselves too; see ``sen_toolbox.evaluation.reranking``. Scores stay
                those of the query, so they may rise and fall. It loads torch.

        Returns:
            Results, best first; for lists one list of results a query.

        Raises:
            ValueError: If there is no query, a sentence is empty, ``k`` is below 1, an image cannot
                be decoded, or another model made the index.
            FileNotFoundError: If there is no index yet.
        """
        texts = [text] if isinstance(text, str) else text
        images = [image] if isinstance(image, str | os.PathLike | np.ndarray) else image
        results = self.search_queries(
            texts, images, k=k, within=within, approximate=approximate, rerank=rerank
        )
        is_one = texts is not text or images is not image
        return results[0] if is_one else results

    def search_queries(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[PathLike | np.ndarray] | None = None,
        *,
        k: int = 10,
        within: PathLike | None = None,
        approximate: bool = False,
        rerank: str | None = None,
    ) -> list[list[Result]]:
        """The best persons for each of some queries, given and asked for as in :meth:`search`."""
        checked_at_least('k', k, 1)
        if texts is None and images is None:
            raise ValueError('there is nothing to search for: give a text, an image, or both')
        queries = self.embed(texts, images)
        count = k if rerank is None else max(k, CANDIDATES)
        results = self.search_vectors(queries, k=count, within=within, approximate=approximate)
        if rerank is not None:
            pairs = zip(queries, results, strict=True)
            results = [self._reranked(query, found, rerank)[:k] for query, found in pairs]
        return results

    def search_vectors(
        self,
        queries: np.ndarray,
        *,
        k: int = 10,
        within: PathLike | None = None,
        approximate: bool = False,
    ) -> list[list[Result]]:
        """The best persons for each of some vectors (Q, D), as :meth:`embed` gives them."""
        found = self.gallery.search(
            queries,
            k,
            within=None if within is None else os.path.abspath(os.fspath(within)),
            approximate=approximate,
        )
        return [self.results(hits) for hits in found]

    def _reranked(self, query: np.ndarray, found: list[Result], method: str) -> list[Result]:
        import torch

        from sen_toolbox.evaluation.reranking import RERANKERS

        if method not in RERANKERS:
            raise ValueError(f'there is no re-ranking {method!r}, choose from {list(RERANKERS)}')
        if not found:
            return []
        vectors = {
            _key(self.results([(entry, 0.0)])[0]): vector
            for entry, vector in self.gallery.items({result.path for result in found})
        }
        candidates = torch.from_numpy(np.stack([vectors[_key(result)] for result in found]))
        scores = RERANKERS[method](torch.from_numpy(query)[None], candidates)[0]
        order = scores.argsort(descending=True, stable=True).tolist()
        return [replace(found[i], rank=rank) for rank, i in enumerate(order, start=1)]

    def results(self, hits: Iterable[tuple[Entry, float]]) -> list[Result]:
        """Entries of the index and their scores, best first, as results."""
        return [
            Result(rank, score, entry.path, entry.identity, self._located(entry.place))
            for rank, (entry, score) in enumerate(hits, start=1)
        ]

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
            # A command line hands over bytes that are not text as lone surrogates.
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

    def _located(self, place: Mapping) -> Mapping:
        """A place of the index, with the crop's absolute path."""
        return {**place, 'crop': str(self._crops / place['crop'])} if 'crop' in place else place

    def __len__(self) -> int:
        """Number of persons in the gallery."""
        return len(self.gallery)


def _key(result: Result) -> tuple[str, str]:
    return result.path, json.dumps(dict(result.place), sort_keys=True)


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
