"""Retrieval in both directions as an MMEngine metric."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from sen_toolbox.evaluation.ranking import retrieval_metrics
from sen_toolbox.evaluation.table import metrics_table
from sen_toolbox.registry import METRICS


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """R1, R5, R10, mAP and mINP of text-to-image and image-to-text search, in percent.

    A sample is one image with all its captions, so nothing is counted twice and MMEngine may cut
    the padding of distributed runs by the dataset's length. Every caption is a query for the
    images, and every image a query for the captions; an item is right if the identity agrees. Keys
    are 't2i/R1' ... 't2i/mINP' and 'i2t/R1' ... 'i2t/mINP'; ``prefix`` and the other arguments are
    those of MMEngine's ``BaseMetric``. To keep the best checkpoint, give CheckpointHook
    ``save_best='t2i/R1', rule='greater'``.
    """

    # Not None, which MMEngine would warn of: the keys already say what they measure.
    default_prefix = ''
    _device = torch.device('cpu')

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features of one batch in host memory.

        Args:
            data_batch: Not used.
            data_samples: One record per image: 'image' (D,), 'text' (n, D), both L2-normalised,
                and 'pid'.

        Raises:
            ValueError: If a record's features have other shapes.
        """
        for record in data_samples:
            image, text = record['image'], record['text']
            if image.ndim != 1 or text.ndim != 2 or text.shape[1] != len(image):
                raise ValueError(
                    f"a record of pid {record['pid']} must hold 'image' (D,) and 'text' (n, D), "
                    f'got {tuple(image.shape)} and {tuple(text.shape)}'
                )
            self._device = image.device
            self.results.append(
                dict(image=image.detach().cpu(), text=text.detach().cpu(), pid=int(record['pid']))
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Rank on the device that the model ran on, and log a table.

        Args:
            results: The records of all ranks, as ``process`` kept them.

        Raises:
            ValueError: If there are none, or a query has no match.
        """
        if not results:
            raise ValueError('there are no records to evaluate: is the dataset empty?')
        images = torch.stack([record['image'] for record in results]).to(self._device)
        texts = torch.cat([record['text'] for record in results]).to(self._device)
        image_pids = torch.tensor([record['pid'] for record in results])
        num_captions = torch.tensor([len(record['text']) for record in results])
        text_pids = image_pids.repeat_interleave(num_captions)

        metrics = {}
        for direction, found in (
            ('t2i', retrieval_metrics(texts, images, text_pids, image_pids)),
            ('i2t', retrieval_metrics(images, texts, image_pids, text_pids)),
        ):
            metrics.update({f'{direction}/{name}': value for name, value in found.items()})
        title = f'{len(images)} images, {len(texts)} captions'
        if self.prefix:
            title = f'{self.prefix}: {title}'
        MMLogger.get_current_instance().info('\n' + metrics_table(metrics, title))
        return metrics
