"""What the page asks for, without HTTP: searching, pictures, and which regions words speak to."""

import base64
import io
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageDraw

from sen_toolbox.pictures import decode_image
from sen_toolbox.search.images import MAX_PIXELS, read_image
from sen_toolbox.search.index import Entry
from sen_toolbox.search.person_search import PersonSearch
from sen_toolbox.search.remarks import remarks_on
from sen_toolbox.search.result import Result
from sen_toolbox.search.suffixes import is_video

if TYPE_CHECKING:
    from sen_toolbox.inference.encoder import Encoder

MAX_TEXT = 1000  # characters; the longest captions of the benchmarks have some 700
MAX_RESULTS = 10_000
MAX_RIGHT = 100
MAX_FOLDERS = 500
# Weight of the mean of the images marked right beside the query's 1 (Rocchio 1971; the value is
# that of Manning, Raghavan, Schuetze, "Introduction to Information Retrieval", 2008).
FEEDBACK = 0.75
# Width and height in pixels that pictures are made to fit.
SIZES = {'small': (240, 480), 'large': (900, 1200)}
WHOLE = (1600, 1200)
FRAME = '#e4572e'
# Rows of a word's map; its windows are an eighth of the height and overlap by half.
MAP_ROWS = 16


class SearchApi:
    """Answers of the page's requests, all JSON values; safe to call from several threads.

    Args:
        search: A model and its gallery.
    """

    def __init__(self, search: PersonSearch) -> None:
        self._search = search
        # Several at once would only take the cores from one another.
        self._embedding, self._mapping = threading.Lock(), threading.Lock()
        self._reading = threading.Lock()

    def gallery(self) -> dict[str, Any]:
        """What the page shows before any search."""
        files = [p for p, state in self._search.gallery.files().items() if state.problem is None]
        folders = sorted({os.path.dirname(path) for path in files})
        return dict(
            persons=len(self._search),
            model=self._search.encoder.model_id.name,
            root=os.path.commonpath(folders) if folders else '',
            folders=folders[:MAX_FOLDERS],
            videos=any(map(is_video, files)),
            words=self._towers is not None,
        )

    def count(self) -> dict[str, int]:
        """How many persons there are now; another process may be indexing."""
        return dict(persons=len(self._search))

    def search(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Results for the sum of the queries, refined by those marked ``right``.

        Args:
            asked: The queries ``text``, ``like`` (an id) and ``picture`` (an image file in base64),
                of which there is at least one; ``right`` (ids), ``k``, ``within`` (a folder),
                ``from`` and ``to`` (seconds in a video).

        Raises:
            ValueError: If a value makes no sense.
            KeyError: If an id is not that of a person in the gallery.
        """
        text = _value(asked, 'text', str, '').strip()
        like, right = _value(asked, 'like', str, ''), _value(asked, 'right', list, [])
        picture = _value(asked, 'picture', str, '')
        k, within = _value(asked, 'k', int, 30), _value(asked, 'within', str, '')
        first = _value(asked, 'from', float, None)
        last = _value(asked, 'to', float, None)
        _check_text(text)
        if not text and not like and not picture:
            raise ValueError('describe a person, or choose one')
        if not 1 <= k <= MAX_RESULTS:
            raise ValueError(f'k is a number of results from 1 to {MAX_RESULTS}, got {k}')
        if len(right) > MAX_RIGHT:
            raise ValueError(f'at most {MAX_RIGHT} persons can be marked, got {len(right)}')
        query = np.zeros(self._search.encoder.model_id.dim, np.float32)
        if text:
            with self._embedding:
                query = self._search.embed([text])[0]
        if picture:
            pixels = _decoded(picture)
            with self._embedding:
                query = query + self._search.embed(None, [pixels])[0]
        if like:
            query = query + self._entry(like)[1]
        query = _unit(query)
        if right:
            query = query + FEEDBACK * np.mean([self._entry(token)[1] for token in right], axis=0)
            query = _unit(query)
        hits = self._hits(query[None], k, within or None, first, last)
        alone = not (picture or like or right)
        remarks = self._remarks(text, hits, by_text_alone=alone) if text else []
        return dict(results=[self._shown(result) for result in hits], remarks=remarks)

    def query(
        self, *, text: str | None, image: np.ndarray | None, **options: Any
    ) -> tuple[list[Result], list[str]]:
        """What ``sen-search query`` would find by itself, and the remarks on it.

        Args:
            text: A sentence.
            image: RGB (H, W, 3) uint8.
            **options: Others of :meth:`PersonSearch.search_queries`.

        Raises:
            ValueError: As there.
        """
        with self._embedding:
            [results] = self._search.search_queries(
                None if text is None else [text], None if image is None else [image], **options
            )
        alone = image is None and not options.get('rerank')
        return results, self._remarks(text, results, by_text_alone=alone) if text else []

    def _remarks(self, text: str, results: list[Result], *, by_text_alone: bool) -> list[str]:
        encoder = self._search.encoder
        return remarks_on(encoder, text, results, by_text_alone=by_text_alone)

    def picture(self, token: str, size: str) -> bytes:
        """JPEG of a person in the gallery; whatever else lies on the disk is not read.

        Args:
            token: An id from a search.
            size: A key of ``SIZES``.

        Raises:
            KeyError: If there is no such person or size, or the file is gone or damaged.
        """
        if size not in SIZES:
            raise KeyError(f'there is no size {size!r}')
        return _jpeg(Image.fromarray(self._pixels(token)), SIZES[size])

    def whole(self, token: str) -> bytes:
        """JPEG of the photo or frame that a person was cut out of, with the person in a frame.

        Raises:
            KeyError: If there is no such person, or the file is gone or damaged.
        """
        entry, _ = self._entry(token)
        # A video is decoded from its last key picture on.
        with self._reading:
            try:
                image = Image.fromarray(_read_whole(entry))
            except (OSError, ValueError) as error:
                raise KeyError(f'{Path(entry.path).name} {error}') from error
        if 'box' in entry.place:
            width = max(2, image.height // 200)
            ImageDraw.Draw(image).rectangle(entry.place['box'], outline=FRAME, width=width)
        return _jpeg(image, WHOLE)

    def words(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """How much each word of ``text`` adds to the score of ``id``, and from where.

        Returns:
            'words': a list of 'word', 'effect' (in units of the score) and 'map' (rows of numbers,
            the largest of all maps is 1).

        Raises:
            ValueError: If there is no text, or the model is an exported one.
            KeyError: If there is no such person.
        """
        text, token = _value(asked, 'text', str, '').strip(), _value(asked, 'id', str, '')
        _check_text(text)
        if not text:
            raise ValueError('describe a person first')
        encoder = self._towers
        if encoder is None:
            raise ValueError('an exported model shows no regions of words: serve the original')
        from sen_toolbox.search.web.word_regions import word_regions

        pixels = self._pixels(token)
        with self._mapping:
            return dict(words=word_regions(encoder, pixels, text, rows=MAP_ROWS))

    @property
    def _towers(self) -> 'Encoder | None':
        # To ask for the class would load torch, which an exported model does without.
        encoder = self._search.encoder
        return cast('Encoder', encoder) if hasattr(encoder, 'model') else None

    def _hits(
        self,
        query: np.ndarray,
        k: int,
        within: str | None,
        first: float | None,
        last: float | None,
    ) -> list[Result]:
        asked = k
        while True:
            [results] = self._search.search_vectors(query, k=asked, within=within)
            kept = [result for result in results if _is_between(result.place, first, last)]
            if len(kept) >= k or len(results) < asked:
                return kept[:k]
            asked *= 4

    def _shown(self, result: Result) -> dict[str, Any]:
        place = {key: value for key, value in result.place.items() if key != 'crop'}
        return dict(
            id=_token(Entry(result.path, place=result.place)),
            score=round(result.score, 4),
            path=result.path,
            identity=result.identity,
            place=place,
            missing=result.is_missing,
        )

    def _entry(self, token: str) -> tuple[Entry, np.ndarray]:
        """The person with an id; the gallery alone decides whether there is one."""
        path = _path_of(token)
        for entry, vector in self._search.gallery.items([path]) if path else ():
            if _token(entry) == token:
                return entry, vector
        raise KeyError('there is no such person in the gallery; search again')

    def _pixels(self, token: str) -> np.ndarray:
        entry, _ = self._entry(token)
        [result] = self._search.results([(entry, 0.0)])
        try:
            return read_image(result.picture)
        except ValueError as error:
            raise KeyError(f'{Path(result.path).name} {error}') from error


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _read_whole(entry: Entry) -> np.ndarray:
    if 'frame' not in entry.place:
        return read_image(entry.path)
    # Imports OpenCV, which a gallery of pictures does not need.
    from sen_toolbox.search.detection.video import read_frame

    return read_frame(entry.path, entry.place['frame'])


def _jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    image.thumbnail(size)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=88)
    return buffer.getvalue()


def _decoded(picture: str) -> np.ndarray:
    try:
        return decode_image(base64.b64decode(picture, validate=True), MAX_PIXELS)
    except ValueError as error:
        raise ValueError(f'this picture cannot be decoded: {error}') from error


def _token(entry: Entry) -> str:
    """An id of an entry for addresses: its path and place, which the gallery is asked for."""
    place = {key: value for key, value in entry.place.items() if key != 'crop'}
    content = os.fsencode(entry.path) + b'\0' + json.dumps(place, sort_keys=True).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip('=')


def _path_of(token: str) -> str:
    """The path in an id; empty if it is none."""
    try:
        content = base64.b64decode(token + '=' * (-len(token) % 4), altchars=b'-_', validate=True)
    except ValueError:
        return ''
    return os.fsdecode(content.partition(b'\0')[0])


def _value(asked: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = asked.get(key, default)
    if value is None or value == '':
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            raise ValueError(f'{key} is a number of seconds, got one of 300 digits') from error
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f'{key} is of type {kind.__name__}, got {type(value).__name__}')
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ValueError(f'{key} is a list of ids')
    return value


def _check_text(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise ValueError(
            f'the description has {len(text)} characters; write at most {MAX_TEXT}, the model '
            'reads the first few dozen words'
        )


def _is_between(place: Mapping, first: float | None, last: float | None) -> bool:
    """Whether a place is in a span of time; what has no time is in none."""
    if first is None and last is None:
        return True
    time = place.get('time')
    return time is not None and (first or 0) <= time and (last is None or time <= last)
