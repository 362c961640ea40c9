"""Annotation files of every layout: read as for training, and checked."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from sen_toolbox.datasets import CUHKPEDES, ICFGPEDES, CaptionedImages, RSTPReid
from sen_toolbox.datasets.check import check_dataset

from .mutations import STRANGE, altered, mangled
from .outcome import attempt, require

CAPTIONS = ['A man in a red coat, with a bag.', 'He "walks".']
# Class, file, folder of images and key of the path.
LAYOUTS = {
    'CUHK': (CUHKPEDES, 'reid_raw.json', 'imgs', 'file_path'),
    'ICFG': (ICFGPEDES, 'ICFG-PEDES.json', 'imgs', 'file_path'),
    'RSTP': (RSTPReid, 'data_captions.json', 'imgs', 'img_path'),
    'JSON': (CaptionedImages, 'annotations.json', '', 'image'),
    'CSV': (CaptionedImages, 'annotations.csv', '', 'image'),
}
HOSTILE = {
    'empty': b'', 'zeros': bytes(50), 'half': b'[{', 'a word': b'null', 'a number': b'7',
    'deep': b'[' * 100_000, 'deep dicts': b'{"a":' * 100_000,
    'long number': b'[' + b'9' * 9999 + b']',
    'UTF-16': '[]'.encode('utf-16'), 'BOM': b'\xef\xbb\xbf[]', 'lines': b'\n' * 1000,
    'quote': b'image,caption,identity,split\n"', 'nan': b'[NaN]', 'page': b'<!doctype html>',
    'long field': b'image,caption,identity,split\n' + b'a' * 200_000 + b',b,c,train\n',
    'zero byte': b'image,caption,identity,split\na\0b,b,c,train\n',
}  # fmt: skip


class Annotations:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        self._bytes, self._records = {}, {}
        for name, (_, _, _, key) in LAYOUTS.items():
            own = name in ('JSON', 'CSV')
            who, ids = ('identity', ['7', 'bob', 'eve', '8']) if own else ('id', [1, 2, 1, 2])
            self._records[name] = [
                {key: f'{n}.png', who: ids[n], 'split': split, 'captions': list(CAPTIONS)}
                for n, split in enumerate(['train', 'train', 'val', 'test'])
            ]
            self._bytes[name] = self._written(name, self._records[name])
        self.hostile = {
            f'{what} {name}': (name, content, False)
            for name in LAYOUTS
            for what, content in HOSTILE.items()
        }

    def _written(self, name: str, records: Any) -> bytes:
        if name != 'CSV':
            return json.dumps(records).encode()
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerow(['image', 'caption', 'identity', 'split'])
        for record in records:
            for caption in record['captions']:
                lines.writerow([record['image'], caption, record['identity'], record['split']])
        return text.getvalue().encode()

    def mutant(self, rng: random.Random) -> tuple[str, bytes, bool]:
        """A layout, the content of its file, and whether every record is as before."""
        name = rng.choice(list(LAYOUTS))
        if name == 'CSV' or rng.random() < 0.4:
            return name, mangled(rng, self._bytes[name]), False
        if rng.random() < 0.1:
            records = [dict(reversed(record.items())) for record in self._records[name]]
            return name, json.dumps(records, indent=rng.randrange(4)).encode(), True
        strange = [value for value in STRANGE if value == value]
        content = json.dumps(altered(rng, self._records[name], strange)).encode()
        return name, content, False

    def check(self, sample: tuple[str, bytes, bool], folder: Path) -> bool:
        name, content, is_same = sample
        kind, file, images, key = LAYOUTS[name]
        (folder / images).mkdir(exist_ok=True)
        for number in range(4):
            Image.new('RGB', (8, 16)).save(folder / images / f'{number}.png')
        (folder / file).write_bytes(content)
        lines = []
        for split in ('train', 'test'):
            found, line = attempt(
                lambda split=split: self._read(kind, folder, split),
                [str(folder / file), str(folder)],
            )
            lines.append(line)
            if is_same:
                require(line is None, f'valid records are refused: {line}')
            for record in found or []:
                require(set(record['captions']) <= set(CAPTIONS) or not is_same, f'{record}')
                require(type(record['person_id']) is int, f'{record}')
        report, line = attempt(
            lambda: check_dataset(folder, dataset=kind, workers=1), [str(folder)]
        )
        if line is None:
            json.dumps(report.to_dict())
            require(report.to_text().replace('\n', '').isprintable(), report.to_text())
        lines.append(line)
        return any(lines)

    def _read(self, kind: type, folder: Path, split: str) -> list[dict]:
        dataset = kind(data_root=folder, split=split)
        return [dataset.get_data_info(number) for number in range(len(dataset))]
