"""A gallery in Milvus: Milvus Lite inside this process, one server, or a cluster, by one client.

Milvus's own script starts one server in a container, which listens on port 19530:
``curl -sfLO https://raw.githubusercontent.com/milvus-io/milvus/master/scripts/standalone_embed.sh``,
``bash standalone_embed.sh start``.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from sen_toolbox.search.index import (
    Entry,
    FileState,
    ModelId,
    check_vectors,
    wrong_model,
)
from sen_toolbox.search.milvus_approximate import EXACT, effort, is_made, search_pages, structure
from sen_toolbox.search.milvus_client import MilvusClient
from sen_toolbox.search.milvus_rows import entry_of, inside_folder, key_of, path_of, quoted

# Names or rows in one request; Milvus takes messages of 64 MB.
CHUNK = 1000
# Entries that are read at once: with paths of 4096 bytes, and with vectors, less than 64 MB. An
# answer takes a server a fifth of a second, however small it is.
PAGE = 4000
STATE_FIELDS = ['size', 'mtime_ns', 'digest']
ENTRY_FIELDS = ['path', 'identity', 'place']
HIT_FIELDS = [*ENTRY_FIELDS, 'model']
# Fields without a value take a server from 2.5 on.
UNKNOWN = ''
FIELDS = {'key', 'model', 'vector', *ENTRY_FIELDS, *STATE_FIELDS}


class MilvusIndex:
    """A :class:`~sen_toolbox.search.index.GalleryIndex` in a Milvus collection.

    A server keeps no writer out: two that index the same files do the work twice, and leave what
    one would. An empty identity is an unknown one. Files that could not be read are not remembered,
    so each indexing tries them again.

    Args:
        collection: Letters, digits and underscores.
        uri: ``http://host:19530``, or a file ``*.db`` for Milvus Lite.
        model: What makes the vectors; None for what made those of a collection that is there.

    Raises:
        ModuleNotFoundError: If the client is not installed.
        ConnectionError: If nothing answers at ``uri``, or another process has the file open.
        ValueError: If something else than Milvus Lite keeps its files at ``uri``, or the server is
            too old.
        FileNotFoundError: If no model is given and there is no collection.
    """

    folder = None

    def __init__(self, collection: str, *, uri: str, model: ModelId | None = None) -> None:
        self.collection, self.uri = collection, uri
        self._client = MilvusClient(uri)
        if self._client.has_collection(collection) and self._has_index():
            # Waits for a server that has just started.
            self._client.load_collection(collection)
        self.model = model or self._made_with()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Makes the collection if there is none.

        Raises:
            ValueError: If it was made with another model.
        """
        if not self._client.has_collection(self.collection):
            self._make()
        self._check_model()
        yield
        self._client.flush(self.collection)

    def files(self) -> dict[str, FileState]:
        """Every file that was indexed, by its path."""
        states: dict[str, FileState] = {}
        torn = set()
        for row in self._rows(['path', *STATE_FIELDS]):
            path = path_of(row)
            state = FileState(*(row[key] for key in STATE_FIELDS))
            if states.setdefault(path, state) != state:
                # A crash between adding the new entries and removing the old.
                torn.add(path)
        return {path: state for path, state in states.items() if path not in torn}

    def write(
        self,
        files: Mapping[str, FileState],
        entries: Sequence[Entry],
        vectors: np.ndarray,
        *,
        removed: Collection[str] = (),
    ) -> None:
        """Replaces all that is known of some files; the new entries come before the old go."""
        check_vectors(vectors, len(entries), self.model.dim)
        rows = [
            dict(
                key=key_of(entry),
                path=quoted(entry.path),
                identity=entry.identity or UNKNOWN,
                place=dict(entry.place),
                model=f'{self.model.fingerprint} {self.model.name}',
                vector=vector,
                **{key: getattr(files[entry.path], key) for key in STATE_FIELDS},
            )
            for entry, vector in zip(entries, vectors, strict=True)
        ]
        for part in _chunks(rows):
            self._client.upsert(self.collection, part)
        keep = {row['key'] for row in rows}
        old = [row['key'] for row in self._rows(['key'], [*removed, *files])]
        for part in _chunks([key for key in old if key not in keep]):
            self._client.delete(self.collection, ids=part)

    def restamp(self, files: Mapping[str, FileState]) -> None:
        """Writes new times of files whose content is as it was; their entries stay."""
        self._change(files, lambda path: vars(files[path]))

    def identify(self, identities: Mapping[str, str]) -> None:
        """Writes who is in some files, by path."""
        self._change(identities, lambda path: dict(identity=identities[path] or UNKNOWN))

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        within: str | None = None,
        approximate: bool = False,
    ) -> list[list[tuple[Entry, float]]]:
        """The k best entries by inner product for each query (Q, D), best first.

        Args:
            queries: L2-normalised embeddings, float32.
            k: From 1; fewer are returned if there are fewer.
            within: Absolute path of a folder to stay in.
            approximate: Whether to ask what :meth:`build_approximate` made. Otherwise the search is
                exact; a collection for which that was called is then read by this client, whole or
                as far as it is within the folder, since Milvus itself looks at new entries by
                groups of its own.

        Raises:
            FileNotFoundError: If there is no such collection.
            ValueError: If it was made with another model, or an approximate search was not
                prepared.
        """
        # A server waits a fifth of a second to be sure of the newest, and what is found is checked.
        self._check_model(consistency_level='Eventually')
        made = self._index()
        if approximate and made['index_type'] == EXACT:
            raise ValueError(
                f'collection {self.collection} is not prepared for approximate search: call '
                'build_approximate() or sen-search index --approximate'
            )
        inside = '' if within is None else inside_folder(within)
        if not approximate and made['index_type'] != EXACT:
            pages = self._pages([*HIT_FIELDS, 'vector'], inside)
            best = search_pages(pages, queries, k)
            return [self._hits(rows) for rows in best]
        found = self._client.search(
            self.collection,
            data=list(queries),
            limit=k,
            output_fields=HIT_FIELDS,
            search_params=dict(metric_type='IP', params=effort(made, k)),
            filter=inside,
        )
        return [self._hits((hit['entity'], hit['distance']) for hit in hits) for hits in found]

    def items(self, paths: Collection[str] | None = None) -> Iterator[tuple[Entry, np.ndarray]]:
        """Entries, all or those of some files, each with its vector (D,) float32."""
        self._check_model()
        for row in self._rows([*ENTRY_FIELDS, 'vector'], paths):
            yield entry_of(row), np.asarray(row['vector'], np.float32)

    def counts(self) -> dict[str, int]:
        """Number of entries of each file, by its path."""
        self._check_model()
        return Counter(map(path_of, self._rows(['path'])))

    def recipes(self) -> dict[str, str]:
        """Nothing: an entry has the mark of its recipe alone."""
        return {}

    def note_recipe(self, mark: str, recipe: str) -> None:
        """Leaves it: an entry has the mark of its recipe alone."""

    def details(self) -> dict[str, str]:
        """Where it is and how it is searched."""
        kind = self._index()['index_type']
        return {
            'Milvus': self.uri,
            'approximate search': 'not prepared' if kind == EXACT else f'prepared, {kind}',
        }

    def build_approximate(self, kind: str = 'ivf') -> None:
        """Has Milvus prepare approximate search, and waits until it has for what is there.

        Meanwhile the collection cannot be searched. What is written later Milvus adds by itself.

        Args:
            kind: 'ivf', groups as in a folder, or 'hnsw', a graph, which is searched faster and
                takes longer to make. Milvus Lite, which is told no number of groups and makes too
                many for few vectors, makes a graph for both.

        Raises:
            ValueError: If there is no such kind.
        """
        wanted = structure(kind, len(self))
        if '://' not in self.uri:
            wanted = structure('hnsw', len(self))
        # Milvus prepares what is flushed.
        self._client.flush(self.collection)
        if not is_made(self._index(), wanted):
            self._client.release_collection(self.collection)
            self._client.drop_index(self.collection, 'vector')
        self._index_vectors(**wanted)

    def compact(self) -> None:
        """Milvus frees the room of removed entries by itself."""

    def __len__(self) -> int:
        """Number of entries."""
        if not self._client.has_collection(self.collection):
            return 0
        self._check_model()
        [row] = self._client.query(self.collection, filter='', output_fields=['count(*)'])
        return row['count(*)']

    def _make(self) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        text = DataType.VARCHAR
        schema.add_field('key', text, is_primary=True, max_length=64)
        # Three characters a byte, 4096 bytes a path.
        schema.add_field('path', text, max_length=12288)
        schema.add_field('size', DataType.INT64)
        schema.add_field('mtime_ns', DataType.INT64)
        schema.add_field('digest', text, max_length=64)
        schema.add_field('identity', text, max_length=1024)
        schema.add_field('place', DataType.JSON)
        # Milvus Lite keeps no description of a collection, so each entry names its model.
        schema.add_field('model', text, max_length=1024)
        schema.add_field('vector', DataType.FLOAT_VECTOR, dim=self.model.dim)
        # A client then reads what it has written.
        self._client.create_collection(self.collection, schema=schema, consistency_level='Strong')
        self._index_vectors(EXACT)

    def _has_index(self) -> bool:
        return bool(self._client.list_indexes(self.collection, field_name='vector'))

    def _index(self) -> dict:
        return self._client.describe_index(self.collection, 'vector')

    def _index_vectors(self, index_type: str, params: Mapping[str, int] | None = None) -> None:
        asked = self._client.prepare_index_params()
        asked.add_index(
            'vector', index_type=index_type, metric_type='IP', params=dict(params or {})
        )
        self._client.create_index(self.collection, asked)
        self._client.load_collection(self.collection)

    def _models(self, **how: str) -> Iterator[str]:
        """What made an entry, if there are entries.

        Raises:
            FileNotFoundError: If there is no collection.
            ValueError: If it is one of something else.
        """
        if not self._client.has_collection(self.collection):
            raise FileNotFoundError(
                f'there is no collection {self.collection} at {self.uri}: make it with sen-search '
                'index FOLDER --uri ...'
            )
        fields = self._client.describe_collection(self.collection)['fields']
        if {field['name'] for field in fields} != FIELDS:
            raise ValueError(
                f'collection {self.collection} at {self.uri} is not an index of this toolbox: '
                'give the name of another'
            )
        if self._has_index():
            # Another client may have made it since.
            self._client.load_collection(self.collection)
        else:
            # Another client is about to, or ended before it did; twice does no harm.
            self._index_vectors(EXACT)
        found = self._client.query(
            self.collection, filter='', output_fields=['model'], limit=1, **how
        )
        yield from (row['model'] for row in found)

    def _made_with(self) -> ModelId:
        fingerprint, _, name = next(self._models(), '').partition(' ')
        fields = self._client.describe_collection(self.collection)['fields']
        [dim] = [field['params']['dim'] for field in fields if field['name'] == 'vector']
        return ModelId(name, fingerprint, int(dim))

    def _check_model(self, **how: str) -> None:
        for model in self._models(**how):
            self._check_maker(model)

    def _check_maker(self, model: str) -> None:
        fingerprint, _, name = model.partition(' ')
        if fingerprint != self.model.fingerprint:
            made_with = f'{name!r} (fingerprint {fingerprint[:12]})'
            raise wrong_model(f'{self.collection} at {self.uri}', made_with, self.model)

    def _hits(self, rows: Iterable[tuple[Mapping, float]]) -> list[tuple[Entry, float]]:
        hits = []
        for row, score in rows:
            self._check_maker(row['model'])
            hits.append((entry_of(row), score))
        return hits

    def _rows(self, fields: list[str], paths: Collection[str] | None = None) -> Iterator[dict]:
        """Some fields of all entries, or of those of some files."""
        parts = [None] if paths is None else _chunks([quoted(path) for path in paths])
        for part in parts:
            for page in self._pages(fields, '' if part is None else f'path in {json.dumps(part)}'):
                yield from page

    def _pages(self, fields: list[str], condition: str) -> Iterator[list[dict]]:
        yield from self._client.pages(
            self.collection, batch_size=PAGE, filter=condition, output_fields=fields
        )

    def _change(self, paths: Collection[str], change: Callable[[str], Mapping[str, Any]]) -> None:
        if not paths:
            return
        rows = self._rows(sorted(FIELDS), paths)
        changed = (
            {key: value for key, value in {**row, **change(path_of(row))}.items() if key in FIELDS}
            for row in rows
        )
        for part in _chunks(list(changed)):
            self._client.upsert(self.collection, part)


def _chunks(items: Collection) -> Iterator[list]:
    iterator = iter(items)
    while part := list(islice(iterator, CHUNK)):
        yield part
