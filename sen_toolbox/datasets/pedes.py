"""Person retrieval data sets in their published layouts, behind one record schema."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from sen_toolbox.io import read_json
from sen_toolbox.messages import printable, shown
from sen_toolbox.registry import TASK_UTILS, TRANSFORMS
from sen_toolbox.seeding import SAMPLE, generators_kept, seed_cpu

from .cache import pruned_captions, token_ids
from .image_cache import cache_images, split_pipeline
from .layout import Layout
from .noise import CAPTION_KEYS, swap_captions
from .transforms import Tokenize

SPLITS = ('train', 'val', 'test')
# Captions of CUHK-PEDES that some copies have in the place of its annotation file.
WITHOUT_SPLITS = 'caption_all.json'


class DamagedRecordsError(ValueError):
    """Records of an annotation file that cannot be used; as text the first and how many more.

    Args:
        faults: What is wrong, one text for each; never empty.
        records: The others, as of ``PedesDataset.raw_records``.
    """

    def __init__(self, faults: Sequence[str], records: Sequence[tuple[Any, str]]) -> None:
        more = f' (and {len(faults) - 1} more, which tools/check_dataset.py lists)'
        super().__init__(faults[0] + (more if len(faults) > 1 else ''))
        self.faults = faults
        self.records = records


class PedesDataset(BaseDataset):
    """Images of persons with captions, read from a folder with images and one JSON file.

    The JSON file is a list of records with the keys ``id`` (int), ``captions`` (list of text),
    ``split`` and the path of the image below ``IMAGE_FOLDER``. Records in memory are
    ``dict(img_path, person_id, captions)``, with a tagger also ``pruned``, one per caption.

    For training a record is one pair of image and caption and has a ``label`` too: its person's
    number, 0..C-1 in the order of the ids. For evaluation it is one image with all its captions.

    ``metainfo`` holds ``num_classes`` (identities), ``num_images`` and ``num_captions``; for
    training also ``num_swapped``, the pairs that noise gave another pair's caption, and
    ``fingerprint``, a digest of the pairs and their order: image paths below the folder,
    identities, captions, what the tagger left of them.

    Args:
        data_root: Folder of the data set itself, e.g. ``data/CUHK-PEDES``.
        split: ``train``, ``val`` or ``test``.
        pipeline: Transforms, built or as configs.
        tagger: Config of a tagger (TASK_UTILS) that makes ``pruned``.
        test_mode: Reads the training split as for evaluation; other splits always are.
        noise_rate: Share of the training pairs whose captions are shuffled, in 0..1.
        noise_seed: Decides which, and how.
        image_cache: Folder, best on a local disk, for a file with the images as the deterministic
            transforms at the beginning of the pipeline leave them; None to make them each time.
            Samples are the same.
        lazy_init: Reads the files at the first use only.

    Raises:
        FileNotFoundError: If the folder, the annotations or images of the split are missing.
        ValueError: If the split is unknown or empty or the annotations are damaged.
        OSError: If the folder of the image cache cannot be written or has too little room.
    """

    LAYOUT: Layout
    ANNOTATION_FILES: tuple[str, ...] = ()
    IMAGE_FOLDER = 'imgs'
    PATH_KEY = 'file_path'
    EMPTY_SPLIT_HINTS: Mapping[str, str] = {}

    def __init__(
        self,
        *,
        data_root: str | Path,
        split: str,
        pipeline: Sequence = (),
        tagger: dict | None = None,
        test_mode: bool = False,
        noise_rate: float = 0.0,
        noise_seed: int = 0,
        image_cache: str | Path | None = None,
        lazy_init: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'unknown split {split!r}, choose one of {", ".join(SPLITS)}')
        if noise_rate and (test_mode or split != 'train'):
            raise ValueError(f'noise_rate is for training alone, got {noise_rate} for {split!r}')
        self.noise_rate = noise_rate
        self.noise_seed = noise_seed
        self.image_cache = image_cache
        self.split = split
        # In shared memory: workers that stay alive would not see what the main process changes.
        self._seed_and_epoch = torch.full((2,), -1, dtype=torch.int64).share_memory_()
        self.tagger = None if tagger is None else TASK_UTILS.build(tagger)
        super().__init__(
            data_root=str(data_root),
            data_prefix={},
            # Built here, because BaseDataset looks only in MMEngine's own registry unless a
            # runner has set the default scope.
            pipeline=[
                TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline
            ],
            test_mode=test_mode or split != 'train',
            lazy_init=lazy_init,
        )

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder looks like a copy of this data set: by its annotation file."""
        return any((root / name).is_file() for name in cls.ANNOTATION_FILES)

    @property
    def metainfo(self) -> dict:
        """Counts of the split; reads the annotations if that has not happened."""
        self.full_init()
        return super().metainfo

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Makes the random choices for a sample depend on seed, epoch and index alone.

        So they are the same in every worker process, also in running ones, and in every order; an
        index that comes twice in an epoch gets the same choices. Without this call transforms draw
        from the generators as they are.

        Args:
            seed: The run's seed, from 0 up.
            epoch: From 0 up.
        """
        self._seed_and_epoch.copy_(torch.tensor([seed, epoch]))

    def __getitem__(self, idx: int) -> Any:
        """Returns a sample; the generators of the process stay as they are after ``set_epoch``."""
        return self.__getitems__([idx])[0]

    def __getitems__(self, indices: Sequence[int]) -> list:
        """Returns the samples of a batch, which torch's loader asks for all at once."""
        with generators_kept() if self._seed_and_epoch[1] >= 0 else nullcontext():
            return [super(PedesDataset, self).__getitem__(idx) for idx in indices]

    def prepare_data(self, idx: int) -> Any:
        """Returns the sample and leaves the generators as it needed them.

        Raises:
            ValueError: If a transform returned nothing; BaseDataset would take another sample.
        """
        seed, epoch = self._seed_and_epoch.tolist()
        if epoch >= 0:
            seed_cpu(seed, SAMPLE, epoch, int(idx))
        sample = super().prepare_data(idx)
        if sample is None:
            path = self.get_data_info(idx)['img_path']
            raise ValueError(f'the pipeline returned nothing for record {idx} ({path})')
        return sample

    def load_data_list(self) -> list[dict]:
        """Reads and checks the annotations and looks for the images of the split."""
        path = self.annotation_path()
        by_split: dict[str, list[dict]] = {split: [] for split in SPLITS}
        for raw, where in self.raw_records(path):
            split, record = self.parse(raw, where)
            by_split[split].append(record)
        records = by_split[self.split]
        if not records:
            counts = ', '.join(f'{split} {len(rows)}' for split, rows in by_split.items() if rows)
            hint = self.EMPTY_SPLIT_HINTS.get(self.split, 'choose a split that has some')
            raise ValueError(
                f'{path} has no records of split {self.split!r} (records: {counts or "none"}): '
                f'{hint}'
            )
        self._check_images(records)
        records = _without_empty_captions(records, path)
        if not records:
            raise ValueError(f'{path}: all captions of split {self.split!r} are empty')
        self._metainfo.update(
            num_classes=len({record['person_id'] for record in records}),
            num_images=len(records),
            num_captions=sum(len(record['captions']) for record in records),
        )
        if self.tagger is not None:
            texts = [text for record in records for text in record['captions']]
            table = pruned_captions(texts, tagger=self.tagger, data_root=self.data_root)
            for record in records:
                record['pruned'] = [table[text] for text in record['captions']]
        self._prepare_pipeline(records)
        if self.test_mode:
            return records
        pairs = self._with_noise(_as_pairs(records))
        for step in self.pipeline.transforms:
            if hasattr(step, 'see_pairs'):
                step.see_pairs(pairs)
        self._metainfo['fingerprint'] = _fingerprint(pairs, str(self.data_root))
        return pairs

    def _prepare_pipeline(self, records: list[dict]) -> None:
        """Makes what needs making once: the token ids, and the image cache."""
        steps = self.pipeline.transforms
        for step in steps:
            if getattr(step, 'rewrites_captions', False):
                break
            if isinstance(step, Tokenize):
                texts = [t for r in records for key in CAPTION_KEYS for t in r.get(key, ())]
                step.known = token_ids(texts, tokenizer=step.tokenizer, data_root=self.data_root)
        if self.image_cache is not None:
            fixed, random = split_pipeline(steps)
            paths = [record['img_path'] for record in records]
            self.pipeline.transforms = [
                cache_images(paths, fixed, folder=self.image_cache),
                *random,
            ]

    def _with_noise(self, pairs: list[dict]) -> list[dict]:
        pairs, swapped = swap_captions(pairs, rate=self.noise_rate, seed=self.noise_seed)
        self._metainfo['num_swapped'] = swapped
        if swapped:
            print_log(
                f'{swapped:,} of {len(pairs):,} training pairs have the caption of another pair '
                f'(noise_rate {self.noise_rate}, noise_seed {self.noise_seed})',
                logger='current',
            )
        return pairs

    def annotation_path(self) -> Path:
        """Returns the annotation file.

        Raises:
            FileNotFoundError: If there is none; describes the layout.
        """
        root = Path(self.data_root)
        names = ' or '.join(self.ANNOTATION_FILES)
        layout = f'{root} should hold {names} and {self._image_place()}'
        if not root.is_dir():
            raise FileNotFoundError(f'there is no folder {root}: {layout}')
        for name in self.ANNOTATION_FILES:
            if (root / name).is_file():
                return root / name
        message = f'there is no annotation file in {root}: {layout}'
        if (root / WITHOUT_SPLITS).is_file():
            message += f'; {WITHOUT_SPLITS} says nothing about splits and cannot replace {names}'
        raise FileNotFoundError(message)

    def _image_place(self) -> str:
        return f'the folder {self.IMAGE_FOLDER}' if self.IMAGE_FOLDER else 'the images'

    def raw_records(self, path: Path) -> list[tuple[Any, str]]:
        """Returns each record of an annotation file, unchecked, with the words for its place.

        Raises:
            ValueError: If the file cannot be read.
        """
        return [(raw, f'{path}: record {index}') for index, raw in enumerate(read_json_list(path))]

    def parse(self, raw: Any, where: str) -> tuple[str, dict]:
        """Returns split and record of a raw record.

        Raises:
            ValueError: If the record is damaged; says how and ``where``.
        """
        if not isinstance(raw, dict):
            raise ValueError(f'{where} is a {type(raw).__name__}, expected a JSON object')
        missing = [key for key in ('split', self.PATH_KEY, 'id', 'captions') if key not in raw]
        if missing:
            raise ValueError(f'{where} lacks {", ".join(missing)}; it has {keys_of(raw)}')
        if raw['split'] not in SPLITS:
            raise ValueError(
                f'{where} has the unknown split {shown(raw["split"])}, expected one of '
                f'{", ".join(SPLITS)}'
            )
        # bool is a kind of int in Python.
        if not isinstance(raw['id'], int) or isinstance(raw['id'], bool):
            raise ValueError(f'{where} has the id {shown(raw["id"])}, expected a whole number')
        # What fits a tensor of ids.
        if abs(raw['id']) >= 2**63:
            raise ValueError(f'{where} has the id {shown(raw["id"])}, which is not below 2**63')
        if not is_text(raw[self.PATH_KEY]) or '\0' in raw[self.PATH_KEY]:
            raise ValueError(
                f'{where} has the {self.PATH_KEY} {shown(raw[self.PATH_KEY])}, not text'
            )
        check_below(raw[self.PATH_KEY], f'{where} has the {self.PATH_KEY}')
        captions = raw['captions']
        check_captions(captions, where)
        path = os.path.join(self.data_root, self.IMAGE_FOLDER, raw[self.PATH_KEY])
        return raw['split'], {'img_path': path, 'person_id': raw['id'], 'captions': captions}

    def _check_images(self, records: list[dict]) -> None:
        missing = missing_files([record['img_path'] for record in records])
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(records)} images of split {self.split!r} are missing, '
                f'e.g. {", ".join(map(printable, missing[:3]))}: unpack them below '
                f'{os.path.join(self.data_root, self.IMAGE_FOLDER)}'
            )


def read_json_list(path: Path) -> list:
    """Returns the list in a JSON file.

    Raises:
        ValueError: If the file is damaged or holds something else.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise ValueError(f'{path} holds a {type(records).__name__}, expected a list of records')
    return records


def check_below(path: str, subject: str) -> None:
    """Refuses a path that may lead out of the folder that it is joined to.

    Annotations often come from elsewhere, and what they name is opened and shown.

    Raises:
        ValueError: If it is absolute or goes up; begins with ``subject``.
    """
    parts = PureWindowsPath(path)
    if parts.drive or parts.root or '..' in parts.parts:
        raise ValueError(
            f'{subject} {shown(path)}, expected a path below the folder of the images, without '
            '"..": move the images there, or put a link to their folder there'
        )


def check_captions(captions: object, where: str) -> None:
    """Refuses what is not a list of texts.

    Raises:
        ValueError: Says where the captions stand.
    """
    if not isinstance(captions, list):
        raise ValueError(f'{where} has captions {shown(captions)}, expected a list of texts')
    for number, caption in enumerate(captions):
        if not is_text(caption):
            raise ValueError(f'{where} has caption {number} {shown(caption)}, expected text')


def is_text(value: object) -> bool:
    """Whether a value is text that can be written; JSON may hold halves of characters."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def keys_of(record: dict) -> str:
    """The first keys of a record, for an error."""
    return ', '.join(key if key.isidentifier() else shown(key) for key in list(record)[:10])


def missing_files(paths: Sequence[str]) -> list[str]:
    """Returns those of the paths that lead to nothing."""
    # One listing per folder; asking for each file takes minutes on a network drive.
    parts = [os.path.split(path) for path in paths]
    present = {folder: _file_names(folder) for folder in {folder for folder, _ in parts}}
    return [
        path
        for path, (folder, name) in zip(paths, parts, strict=True)
        if name not in present[folder]
    ]


def _file_names(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _without_empty_captions(records: list[dict], path: Path) -> list[dict]:
    kept = []
    changed = []
    dropped = []
    for record in records:
        captions = [text for text in record['captions'] if text.strip()]
        if captions:
            kept.append({**record, 'captions': captions})
            if len(captions) < len(record['captions']):
                changed.append(record['img_path'])
        else:
            dropped.append(record['img_path'])
    for files, what in (
        (changed, 'have empty captions, which are left out'),
        (dropped, 'have no caption and are left out'),
    ):
        if files:
            names = ', '.join(map(printable, files[:3])) + (', ...' if len(files) > 3 else '')
            print_log(
                f'{path}: {len(files)} images {what}: {names}',
                logger='current',
                level=logging.WARNING,
            )
    return kept


def _as_pairs(records: list[dict]) -> list[dict]:
    people = sorted({record['person_id'] for record in records})
    labels = {person_id: label for label, person_id in enumerate(people)}
    pairs = []
    for image_id, record in enumerate(records):
        shared = {**record, 'label': labels[record['person_id']], 'image_id': image_id}
        for number, caption in enumerate(record['captions']):
            pair = {**shared, 'captions': [caption]}
            if 'pruned' in record:
                pair['pruned'] = [record['pruned'][number]]
            pairs.append(pair)
    return pairs


def _fingerprint(pairs: list[dict], root: str) -> str:
    """A digest of what is trained on, wherever the folder lies; 0.2 s for CUHK-PEDES."""
    digest = hashlib.sha256()
    for pair in pairs:
        texts = [text for key in CAPTION_KEYS for text in pair.get(key, ())]
        row = [pair['img_path'].removeprefix(root).lstrip('/'), pair['person_id'], *texts]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
