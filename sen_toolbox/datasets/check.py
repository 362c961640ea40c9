"""Checks the copy of a data set on disk against what was published and against common faults."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prettytable import PrettyTable

from sen_toolbox.messages import printable
from sen_toolbox.registry import DATASETS

from .layout import Counts, Layout
from .pedes import SPLITS, WITHOUT_SPLITS, DamagedRecordsError, PedesDataset, missing_files
from .transforms import LoadImage

# Brackets, operators and calls, which a sentence about a person does not have.
CODE = re.compile(r'[\[\]{}=\\_<>|`]|\b(?:print|range|len|str|int)\(|\b(?:self|np|os)\.\w')
# Chinese, Japanese and Korean with their punctuation and full-width forms.
CJK = re.compile('[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]')


def known_datasets() -> dict[str, type[PedesDataset]]:
    """The registered data sets that say what is known of them, by name."""
    DATASETS.import_from_location()
    return {
        name: cls
        for name, cls in DATASETS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, PedesDataset) and 'LAYOUT' in vars(cls)
    }


@dataclass(frozen=True)
class Finding:
    """Something that a data set has and should not, or that its user should know.

    Args:
        kind: What was found, in a few words.
        places: Where; never empty.
        advice: What to do.
        is_fault: False for what may stay as it is.
    """

    kind: str
    places: Sequence[str]
    advice: str
    is_fault: bool


@dataclass(frozen=True)
class Report:
    """Result of a check; ``counts`` by split, and ``all``."""

    layout: Layout
    annotations: str
    counts: Mapping[str, Counts]
    findings: Sequence[Finding]

    @property
    def has_faults(self) -> bool:
        """Whether anything has to be repaired."""
        return any(finding.is_fault for finding in self.findings)

    def to_dict(self) -> dict:
        """Everything, ready for JSON."""
        return {
            'name': self.layout.name,
            'annotations': self.annotations,
            'counts': {split: counts._asdict() for split, counts in self.counts.items()},
            'published': {
                split: counts._asdict() for split, counts in self.layout.published.items()
            },
            'has_faults': self.has_faults,
            'findings': [
                {**asdict(finding), 'places': list(finding.places)} for finding in self.findings
            ],
        }

    def to_text(self, max_places: int = 3) -> str:
        """A table of counts, then each finding with its first places and the advice."""
        table = PrettyTable(['split', 'ids', 'images', 'captions', 'published'])
        table.align = 'r'
        table.align['split'] = 'l'
        for split, counts in self.counts.items():
            published = self.layout.published.get(split)
            table.add_row([
                split,
                *(f'{number:,}' for number in counts),
                ' / '.join(f'{number:,}' for number in published) if published else '-',
            ])  # fmt: skip
        lines = [printable(f'{self.layout.name}: {self.annotations}')]
        if self.counts:
            lines.append(table.get_string())
        for finding in self.findings:
            shown = '; '.join(_clipped(printable(place)) for place in finding.places[:max_places])
            more = '; ...' if len(finding.places) > max_places else ''
            word = 'FAULT' if finding.is_fault else 'note'
            lines.append(f'{word}: {finding.kind} ({len(finding.places)}): {shown}{more}')
            lines.append(f'  {finding.advice}')
        faults = sum(finding.is_fault for finding in self.findings)
        lines.append(f'kinds of faults: {faults}' if faults else 'no faults')
        return '\n'.join(lines)


def recognise(root: str | Path) -> type[PedesDataset] | None:
    """The data set that a folder holds a copy of; None if it is not known."""
    # What extends another data set is looked for first.
    classes = sorted(known_datasets().values(), key=lambda cls: len(cls.__mro__), reverse=True)
    return next((cls for cls in classes if cls.recognises(Path(root))), None)


def check_dataset(
    root: str | Path,
    dataset: type[PedesDataset],
    *,
    workers: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Runs every check.

    Args:
        root: Folder of the data set.
        dataset: What it should be, from :func:`recognise` or :func:`known_datasets`.
        workers: Threads that decode images; 0 decodes none.
        progress: Called with the number of decoded images and of all.

    Raises:
        FileNotFoundError: If the folder has no annotation file of this layout.
    """
    layout = dataset.LAYOUT
    reader = dataset(data_root=root, split='train', lazy_init=True)
    try:
        path = reader.annotation_path()
    except FileNotFoundError:
        path = Path(root) / WITHOUT_SPLITS
        if not path.is_file():
            raise
        return Report(layout, str(path), {}, [_no_splits(path, dataset)])
    records: list[dict] = []
    damaged: list[str] = []
    raw_records: Sequence[tuple[Any, str]]
    try:
        raw_records = reader.raw_records(path)
    except DamagedRecordsError as error:
        raw_records, damaged = error.records, list(error.faults)
    except ValueError as error:
        advice = 'Copy the file again, or repair the place named.'
        return Report(layout, str(path), {}, [Finding('annotations', [str(error)], advice, True)])
    if raw_records and not any('split' in raw for raw, _ in raw_records if isinstance(raw, dict)):
        return Report(layout, str(path), {}, [_no_splits(path, dataset)])
    for raw, where in raw_records:
        try:
            split, record = reader.parse(raw, where)
        except ValueError as error:
            damaged.append(str(error))
        else:
            records.append({**record, 'split': split})
    findings = []
    if damaged:
        advice = 'Training refuses the whole file: repair or remove these records.'
        findings.append(Finding('damaged records', damaged, advice, True))
    counts = count_records(records)
    findings += check_counts(counts, layout)
    findings += check_images(records, root, dataset, workers=workers, progress=progress)
    findings += check_persons(records, layout)
    findings += check_captions(records, layout)
    return Report(layout, str(path), counts, findings)


def _no_splits(path: Path, dataset: type[PedesDataset]) -> Finding:
    names = ' or '.join(dataset.ANNOTATION_FILES)
    advice = (
        f'{WITHOUT_SPLITS} lists captions without their splits and cannot replace {names}, even '
        f'under that name: ask for {names}, or take it from the repository of the data set.'
    )
    return Finding('no splits', [str(path)], advice, True)


def count_records(records: Iterable[Mapping]) -> dict[str, Counts]:
    """Counts of each split that has records, in the usual order, and of ``all``."""
    by_split = defaultdict(list)
    for record in records:
        by_split[record['split']].append(record)
        by_split['all'].append(record)
    return {
        split: Counts(
            ids=len({record['person_id'] for record in by_split[split]}),
            images=len(by_split[split]),
            captions=sum(len(record['captions']) for record in by_split[split]),
        )
        for split in (*SPLITS, 'all')
        if split in by_split
    }


def check_counts(counts: Mapping[str, Counts], layout: Layout) -> list[Finding]:
    """Compares counts with the published ones; a withdrawn release is recognised by its counts."""
    splits = [split for split in counts if split != 'all']
    if layout.superseded and layout.superseded == {split: counts[split] for split in splits}:
        advice = (
            f'This is an early release of {layout.name} with wrong splits, which its authors '
            'replaced: download the annotations again; results do not compare.'
        )
        places = [f'{split}: {counts[split]}' for split in splits]
        return [Finding('withdrawn release', places, advice, True)]
    compared = list(layout.published)
    if compared and 'all' not in compared:
        compared += [split for split in splits if split not in compared]
    none = Counts(0, 0, 0)
    places = [
        f'{split}: {counts.get(split, none)}; published {layout.published.get(split, none)}'
        for split in compared
        if counts.get(split, none) != layout.published.get(split, none)
    ]
    advice = (
        'Another release, a changed or an incomplete file: download the annotations again, or say '
        'with your results that the data differ.'
    )
    return [Finding('counts', places, advice, True)] if places else []


def check_images(
    records: Sequence[Mapping],
    root: str | Path,
    dataset: type[PedesDataset],
    *,
    workers: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Finds folders and images that are missing, and decodes all others."""
    paths = list(dict.fromkeys(record['img_path'] for record in records))
    missing = missing_files(paths)
    folders = Counter(os.path.dirname(path) for path in missing)
    absent = {folder for folder in folders if not os.path.isdir(folder)}
    gone = set(missing)
    unreadable = unreadable_images(
        [path for path in paths if path not in gone], workers=workers, progress=progress
    )
    places = f'below {os.path.join(root, dataset.IMAGE_FOLDER)}'
    return _findings(
        dataset.LAYOUT,
        (
            'missing folders',
            [f'{folder} ({folders[folder]:,} images)' for folder in sorted(absent)],
            f'Unpack them {places}, with the paths that the annotations have.',
            True,
        ),
        (
            'missing images',
            [path for path in missing if os.path.dirname(path) not in absent],
            f'Unpack the archive {places} again.',
            True,
        ),
        ('unreadable images', unreadable, 'Copy these files again from the archive.', True),
    )


def unreadable_images(
    paths: Sequence[str],
    *,
    workers: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Decodes images as training does and returns what went wrong, one text for each.

    Args:
        paths: Image files.
        workers: Threads; Pillow lets them run side by side. 0 decodes nothing.
        progress: Called with the number of decoded images and of all.
    """
    if workers < 1:
        return []
    errors = []
    with ThreadPoolExecutor(workers) as pool:
        for done, error in enumerate(pool.map(_decoding_error, paths), start=1):
            if error:
                errors.append(error)
            if progress is not None:
                progress(done, len(paths))
    return errors


def _decoding_error(path: str) -> str:
    try:
        LoadImage().transform({'img_path': path})
    except (OSError, ValueError) as error:
        return str(error)
    return ''


def check_persons(records: Sequence[Mapping], layout: Layout) -> list[Finding]:
    """Finds persons with one image, in several splits, and images of several persons."""
    images, splits, persons = defaultdict(set), defaultdict(set), defaultdict(set)
    for record in records:
        images[record['person_id']].add(record['img_path'])
        splits[record['person_id']].add(record['split'])
        persons[record['img_path']].add(record['person_id'])
    return _findings(
        layout,
        (
            'image of several persons',
            [
                f'{path}: ids {_listed(person_ids)}'
                for path, person_ids in persons.items()
                if len(person_ids) > 1
            ],
            'An image shows one person here: remove the wrong records.',
            True,
        ),
        (
            'persons in several splits',
            [
                f'id {person_id}: {", ".join(sorted(found))}'
                for person_id, found in splits.items()
                if len(found) > 1
            ],
            'A person of the training split must not be in another one; if each split numbers '
            'persons anew, there is nothing to do.',
            False,
        ),
        (
            'single images',
            [
                f'id {person_id}: {", ".join(paths)}'
                for person_id, paths in images.items()
                if len(paths) == 1
            ],
            'Nothing to do: such a person is one query and one image.',
            False,
        ),
    )


def check_captions(records: Sequence[Mapping], layout: Layout) -> list[Finding]:
    """Finds captions that are empty, no English, code, shared by persons or too many."""
    persons = defaultdict(set)
    empty, foreign, code, many = [], [], [], []
    for record in records:
        path, captions = record['img_path'], record['captions']
        if layout.captions_per_image and len(captions) > layout.captions_per_image:
            many.append(f'{path}: {len(captions)} captions')
        if not any(caption.strip() for caption in captions):
            empty.append(f'{path}: no caption')
        elif not all(caption.strip() for caption in captions):
            empty.append(f'{path}: an empty caption')
        for caption in captions:
            if characters := foreign_characters(caption):
                foreign.append(f'{path}: {characters}')
            if CODE.search(caption):
                code.append(f'{path}: {caption!r}')
            if caption.strip():
                persons[' '.join(caption.casefold().split())].add(record['person_id'])
    shared = [
        f'{caption!r}: ids {_listed(person_ids)}'
        for caption, person_ids in persons.items()
        if len(person_ids) > 1
    ]
    keep = 'Keep them in a published set, so that results compare; correct your own.'
    return _findings(
        layout,
        (
            'empty captions',
            empty,
            'They are left out, and an image without any caption too: write one.',
            False,
        ),
        ('foreign characters', foreign, f'CLIP knows English only. {keep}', False),
        ('code', code, keep, False),
        (
            'shared captions',
            shared,
            f'Only one of the persons counts as right for such a query. {keep}',
            False,
        ),
        ('more captions', many, 'All of them are used, as the releases do.', False),
    )


def foreign_characters(text: str) -> str:
    """The characters of a text that are letters of no Latin alphabet, or Chinese punctuation.

    >>> foreign_characters('a caf\u00e9 \u2013 \u201cchic\u201d \U0001f534')
    ''
    >>> foreign_characters('red\uff0ccoat') == '\uff0c'
    True
    """
    return ''.join(
        char
        for char in text
        if not char.isascii()
        and (
            CJK.match(char)
            or (char.isalpha() and not unicodedata.name(char, '').startswith('LATIN'))
        )
    )


def _clipped(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f'{text[: length // 2]} ... {text[-length // 2 :]}'


def _listed(numbers: Iterable[int]) -> str:
    return ', '.join(map(str, sorted(numbers)))


def _findings(layout: Layout, *rows: tuple[str, Sequence[str], str, bool]) -> list[Finding]:
    """Those with places; what is known of the data set follows the advice."""
    return [
        Finding(kind, places, ' '.join(filter(None, (advice, layout.hints.get(kind)))), is_fault)
        for kind, places, advice, is_fault in rows
        if places
    ]
