"""Counts what a data set holds, for people to compare with the published numbers."""

from collections.abc import Mapping

from mmengine.dataset import BaseDataset
from prettytable import PrettyTable


def dataset_table(datasets: Mapping[str, BaseDataset]) -> str:
    """Returns a table with one row for each split.

    Args:
        datasets: Data sets by the name of their split. A training split may list an image once for
            each caption; it counts once.
    """
    table = PrettyTable(['split', 'ids', 'images', 'captions', 'captions/image', 'words/caption'])
    table.align = 'r'
    table.align['split'] = 'l'
    for split, dataset in datasets.items():
        records = [dataset.get_data_info(index) for index in range(len(dataset))]
        ids = {record['person_id'] for record in records}
        images = {record['img_path'] for record in records}
        lengths = [len(text.split()) for record in records for text in record['captions']]
        table.add_row([
            split,
            f'{len(ids):,}',
            f'{len(images):,}',
            f'{len(lengths):,}',
            f'{len(lengths) / len(images):.2f}',
            f'{sum(lengths) / len(lengths):.1f}',
        ])  # fmt: skip
    return table.get_string()
