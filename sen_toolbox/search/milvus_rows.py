"""What an entry is as a row of a Milvus collection."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sen_toolbox.search.index import Entry, checked_entry


def quoted(path: str) -> str:
    """A path as a collection holds it."""
    # A file name is any bytes; Milvus takes UTF-8, and a filter must not end at a quote.
    return quote_from_bytes(os.fsencode(path))


def inside_folder(folder: str) -> str:
    """The condition that a path lies below a folder."""
    name = quoted(os.path.join(folder, ''))
    # The character after the separator ends the names that begin with the folder.
    return f'path > "{name}" and path < "{name[:-1]}0"'


def path_of(row: Mapping[str, Any]) -> str:
    """The path of a row."""
    return os.fsdecode(unquote_to_bytes(row['path']))


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The entry of a row.

    Raises:
        ValueError: If it holds what no entry has.
    """
    return checked_entry(path_of(row), row['identity'] or None, row['place'])


def key_of(entry: Entry) -> str:
    """The primary key of an entry: one for each place of each file."""
    place = json.dumps(dict(entry.place), sort_keys=True).encode()
    return hashlib.sha256(os.fsencode(entry.path) + b'\0' + place).hexdigest()
