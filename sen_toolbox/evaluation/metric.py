"""Retrieval in both directions as an MMEngine metric."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from sen_toolbox.evaluation.ranking import retrieval_metrics
from sen_toolbox.evaluation.reranking import RERANKERS, reranked_metrics
from sen_toolbox.evaluation.table import metrics_table
from sen_toolbox.registry import METRICS


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """R1, R5, R10, mAP and mINP of text-to-image and image-to-text search, in percent.

    A sample is one image with all its captions, so nothing is counted twice and MMEngine may cut
    the padding of distributed runs by the dataset's length. Every caption is a query for the
    images, and every image a query for the captions; an item is right if the identity agrees. Keys
    are 't2i/R1' ... 't2i/mINP' and 'i2t/R1' ... 'i2t/mINP'. To keep the best checkpoint, give
    CheckpointHook ``save_best='t2i/R1', rule='greater'``.

    Args:
        rerank: Keys of ``RERANKERS``; each adds figures under '<key>/t2i/R1' and so on, and a table
            of its own.
        base: Arguments of MMEngine's ``BaseMetric``, ``prefix`` for instance.

    Raises:
        KeyError: If there is no such way to re-rank.
    """

    # Not None, which MMEngine would warn of: the keys already say what they measure.
    default_prefix = ''
    _device = torch.device('cpu')

    def __init__(self, *, rerank: Sequence[str] = (), **base: Any) -> None:
        super().__init__(**base)
        for method in rerank:
            if method not in RERANKERS:
                raise KeyError(f'there is no re-ranking {method!r}, choose from {list(RERANKERS)}')
        self.rerank = tuple(rerank)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features of one batch where they are, so that no batch waits for a copy.

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
            self.results.append(
                dict(image=image.detach(), text=text.detach(), pid=int(record['pid']))
            )

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect the records of all ranks, the first ``size`` of them, and rank them.

        MMEngine does so in host memory; here one copy takes them there instead of one a record.
        """
        if self.results:
            self._device = self.results[0]['image'].device
            counts = [len(record['text']) for record in self.results]
            images = torch.stack([record['image'] for record in self.results]).cpu()
            texts = torch.cat([record['text'] for record in self.results]).cpu().split(counts)
            for record, image, text in zip(self.results, images, texts, strict=True):
                record.update(image=image, text=text)
        return super().evaluate(size)

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

        def both(rank: Callable[..., dict[str, float]]) -> dict[str, float]:
            found = dict(
                t2i=rank(texts, images, text_pids, image_pids),
                i2t=rank(images, texts, image_pids, text_pids),
            )
            return {
                f'{way}/{name}': v for way, values in found.items() for name, v in values.items()
            }

        title = f'{len(images)} images, {len(texts)} captions'
        if self.prefix:
            title = f'{self.prefix}: {title}'
        logger = MMLogger.get_current_instance()
        metrics = both(retrieval_metrics)
        logger.info('\n' + metrics_table(metrics, title))
        for method in self.rerank:
            found = both(partial(reranked_metrics, method))
            logger.info('\n' + metrics_table(found, f'after {method} re-ranking: {title}'))
            metrics |= {f'{method}/{key}': value for key, value in found.items()}
        return metrics
