"""Your own images and captions, from one CSV or JSON file."""

import csv
import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sen_toolbox.messages import shown
from sen_toolbox.registry import DATASETS

from .layout import Layout
from .pedes import (
    SPLITS,
    DamagedRecordsError,
    PedesDataset,
    check_captions,
    is_text,
    keys_of,
    read_json_list,
)

COLUMNS = ('image', 'caption', 'identity', 'split')
# '007' and '7' are two identities, hence no numbers; 18 digits fit an int64 tensor.
WHOLE_NUMBER = re.compile('0|[1-9][0-9]{0,17}')


@DATASETS.register_module()
class CaptionedImages(PedesDataset):
    """Your own images: ``annotations.csv`` or, where there is none, ``annotations.json``.

    The CSV file is UTF-8, comma-separated, and its first line names the columns, in any order;
    further columns are ignored. One line is one caption, so an image with two captions takes two::

        image,caption,identity,split
        shots/0001.jpg,"A man in a red coat, with a bag.",alice,train
        shots/0001.jpg,He wears a long red coat.,alice,train

    The JSON file is a list of objects with the same keys, or ``captions``, a list of texts, instead
    of ``caption``.

    - ``image``: path below ``data_root``, where a folder may be a link.
    - ``identity``: text or a whole number; the same one means the same person. Whole numbers are
      kept as person ids. If any identity is other text, all are numbered in the order of the text.
    - ``split``: ``train``, ``val`` or ``test``. It is required: nothing here divides persons
      among splits, since nobody who is trained on may be searched for.

    Args:
        **kwargs: Those of ``PedesDataset``.

    Raises:
        FileNotFoundError: If the folder, the file or images of the split are missing.
        ValueError: If the file lacks a column or a line is damaged; names the line.
    """

    LAYOUT = Layout(name='CaptionedImages')
    ANNOTATION_FILES = ('annotations.csv', 'annotations.json')
    IMAGE_FOLDER = ''
    PATH_KEY = 'image'

    def raw_records(self, path: Path) -> list[tuple[Any, str]]:
        """Returns one record for each image, in the keys of the published sets.

        Raises:
            DamagedRecordsError: If lines are damaged or contradict each other; names all of them.
            ValueError: If the file cannot be read.
        """
        read = _read_csv if path.suffix == '.csv' else _read_json
        images: dict[str, tuple[dict, str]] = {}
        splits: dict[str, tuple[str, str]] = {}
        faults = []
        for row, where in read(path):
            try:
                row = _checked(row, where)
                first, place = images.setdefault(row['image'], ({**row, 'captions': []}, where))
                _check_same(row, where, first, place)
                _check_split(row, where, *splits.setdefault(row['identity'], (row['split'], where)))
            except ValueError as error:
                faults.append(str(error))
            else:
                first['captions'] += row['captions']
        numbers = _identity_numbers({row['identity'] for row, _ in images.values()})
        records = [
            (
                {
                    self.PATH_KEY: row['image'],
                    'id': numbers[row['identity']],
                    'split': row['split'],
                    'captions': row['captions'],
                },
                where,
            )
            for row, where in images.values()
        ]
        if faults:
            raise DamagedRecordsError(faults, records)
        return records


def _check_same(row: dict, where: str, first: dict, place: str) -> None:
    for key in ('identity', 'split'):
        if row[key] != first[key]:
            raise ValueError(
                f'{where} gives the image {shown(row["image"])} the {key} '
                f'{shown(row[key])}, but {place} gives it {shown(first[key])}'
            )


def _check_split(row: dict, where: str, split: str, place: str) -> None:
    if row['split'] != split:
        raise ValueError(
            f'{where} has the identity {shown(row["identity"])} in {row["split"]}, but {place} in '
            f'{split}: nobody who is trained on may be searched for'
        )


def _read_csv(path: Path) -> Iterator[tuple[tuple[list[str], list[str]], str]]:
    try:
        # Excel begins UTF-8 files with a mark, which utf-8-sig removes.
        text = path.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is not UTF-8 text at byte {error.start}: save it as "CSV UTF-8"'
        ) from error
    # Without `strict` a quote that is never closed swallows the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=''), strict=True)
    lines = []
    try:
        for cells in reader:
            lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise ValueError(
            f'{path}: line {reader.line_num} is not valid CSV ({error}): close every double quote '
            'and write "" for one inside a caption'
        ) from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        hint = '; separate columns by commas' if len(header) == 1 else ''
        raise ValueError(
            f'{path} lacks the columns {", ".join(missing)}; its first line is '
            f'{shown(",".join(header))}{hint}'
        )
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise ValueError(
            f'{path} has several columns {", ".join(twice)}: give each further caption a line of '
            'its own, with the same image'
        )
    for number, cells in lines[1:]:
        where = f'{path}: line {number}'
        if not any(cells):
            continue
        yield (header, cells), where


def _read_json(path: Path) -> Iterator[tuple[Any, str]]:
    for index, row in enumerate(read_json_list(path)):
        yield row, f'{path}: record {index}'


def _from_cells(header: list[str], cells: list[str], where: str) -> dict:
    if len(cells) != len(header):
        raise ValueError(
            f'{where} has {len(cells)} cells, the first line {len(header)}: put double quotes '
            'around captions with commas'
        )
    return dict(zip(header, cells, strict=True))


def _from_object(row: Any, where: str) -> dict:
    if not isinstance(row, dict):
        raise ValueError(f'{where} is a {type(row).__name__}, expected a JSON object')
    missing = [key for key in ('image', 'identity', 'split') if key not in row]
    if ('caption' in row) == ('captions' in row):
        missing.append('either caption or captions')
    if missing:
        raise ValueError(f'{where} lacks {", ".join(missing)}; it has {keys_of(row)}')
    return row


def _checked(row: Any, where: str) -> dict:
    """A row, of cells or from JSON, with stripped text, and its captions as a list."""
    if isinstance(row, tuple):
        header, cells = row
        row = _from_cells(header, cells, where)
    else:
        row = _from_object(row, where)
    captions = [row['caption']] if 'caption' in row else row['captions']
    identity = row['identity']
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    checked = {'image': row['image'], 'identity': identity, 'split': row['split']}
    for key, value in checked.items():
        if not is_text(value) or not value.strip() or '\0' in value:
            raise ValueError(f'{where} has the {key} {shown(row[key])}, expected text')
        checked[key] = value.strip()
    checked['image'] = posixpath.normpath(checked['image'])
    if checked['split'] not in SPLITS:
        raise ValueError(
            f'{where} has the unknown split {shown(row["split"])}, expected one of '
            f'{", ".join(SPLITS)}'
        )
    check_captions(captions, where)
    return {**checked, 'captions': captions}


def _identity_numbers(identities: set[str]) -> dict[str, int]:
    """The number of each identity: its own where all are whole numbers, else its place in order.

    >>> _identity_numbers({'7', '12'}) == {'7': 7, '12': 12}
    True
    >>> _identity_numbers({'7', 'bob', '12'}) == {'12': 0, '7': 1, 'bob': 2}
    True
    """
    if all(WHOLE_NUMBER.fullmatch(identity) for identity in identities):
        return {identity: int(identity) for identity in identities}
    return {identity: number for number, identity in enumerate(sorted(identities))}
