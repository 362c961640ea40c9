"""Retrieval in both directions as an MMEngine metric."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from sen_toolbox.evaluation.candidates import candidate_metrics
from sen_toolbox.evaluation.ranking import retrieval_metrics
from sen_toolbox.evaluation.reranking import RERANKERS, reranked_metrics
from sen_toolbox.evaluation.table import metrics_table
from sen_toolbox.registry import METRICS

# Of these a record has one row, of all other tensors one row per caption.
PER_IMAGE = ('image_embedding', 'candidate_image')


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """R1, R5, R10, mAP and mINP of text-to-image and image-to-text search, in percent.

    A sample is one image with all its captions, so nothing is counted twice and MMEngine may cut
    the padding of distributed runs by the dataset's length. Every caption is a query for the
    images, and every image a query for the captions; an item is right if the identity agrees. Keys
    are 't2i/R1' ... 't2i/mINP' and 'i2t/R1' ... 'i2t/mINP'. To keep the best checkpoint, give
    CheckpointHook ``save_best='t2i/R1', rule='greater'``.

    A model with a head that scores candidates (see HEADS) adds figures under 'scored/t2i/R1' and
    so on: of text-to-image search, where the best images of each caption are put into the order of
    that score. To select by them: ``save_best='scored/t2i/R1'``. With the re-ranking
    'visual_neighbours' there are also figures under 'visual_neighbours/scored/t2i/R1' and so on.

    Args:
        candidates: Images per caption that such a head scores; None for all.
        rerank: Keys of ``RERANKERS``; each adds figures under '<key>/t2i/R1' and so on, and a table
            of its own.
        base: Arguments of MMEngine's ``BaseMetric``, ``prefix`` for instance.

    Raises:
        KeyError: If there is no such way to re-rank.
        ValueError: If ``candidates`` is below 1.
    """

    # Not None, which MMEngine would warn of: the keys already say what they measure.
    default_prefix = ''
    _device = torch.device('cpu')
    _score: Callable | None = None

    def __init__(
        self, *, rerank: Sequence[str] = (), candidates: int | None = None, **base: Any
    ) -> None:
        super().__init__(**base)
        if candidates is not None and candidates < 1:
            raise ValueError(f'candidates is a number of images from 1 up, got {candidates}')
        self.candidates = candidates
        for method in rerank:
            if method not in RERANKERS:
                raise KeyError(f'there is no re-ranking {method!r}, choose from {list(RERANKERS)}')
        self.rerank = tuple(rerank)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features of one batch where they are, so that no batch waits for a copy.

        Args:
            data_batch: Not used.
            data_samples: One record per image, as ``TextImageRetriever.predict`` returns them.

        Raises:
            ValueError: If a record's features have other shapes.
        """
        for record in data_samples:
            image, texts = record['image_embedding'], record['text_embeddings']
            if image.ndim != 1 or texts.ndim != 2 or texts.shape[1] != len(image):
                raise ValueError(
                    f"a record of person {record['person_id']} must hold 'image_embedding' (D,) "
                    f"and 'text_embeddings' (n, D), got {tuple(image.shape)} and "
                    f'{tuple(texts.shape)}'
                )
            self._score = record.get('score')
            # A function does not travel between processes.
            self.results.append({k: _kept(v) for k, v in record.items() if k != 'score'})

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect the records of all ranks, the first ``size`` of them, and rank them.

        MMEngine does so in host memory; here one copy takes them there instead of one per record.
        """
        if self.results:
            self._device = self.results[0]['image_embedding'].device
            for key in self.results[0]:
                if key != 'person_id':
                    _move_together(self.results, key)
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
        images = self._joined(results, 'image_embedding')
        texts = self._joined(results, 'text_embeddings')
        image_ids = torch.tensor([record['person_id'] for record in results])
        num_captions = torch.tensor([len(record['text_embeddings']) for record in results])
        text_ids = image_ids.repeat_interleave(num_captions)

        def both(rank: Callable[..., dict[str, float]]) -> dict[str, float]:
            found = dict(
                t2i=rank(texts, images, text_ids, image_ids),
                i2t=rank(images, texts, image_ids, text_ids),
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
        if self._score is not None:
            count = min(self.candidates or len(images), len(images))
            rank_anew = partial(
                candidate_metrics,
                self._score,
                texts=texts,
                images=images,
                candidate_texts=self._joined(results, 'candidate_text'),
                candidate_images=self._joined(results, 'candidate_image'),
                text_ids=text_ids,
                image_ids=image_ids,
                count=count,
            )
            title = f'best {count} images of each caption scored anew: {title}'
            found = rank_anew()
            logger.info('\n' + metrics_table(found, title))
            metrics |= {f'scored/{key}': value for key, value in found.items()}
            if 'visual_neighbours' in self.rerank:
                found = rank_anew(with_neighbours=True)
                logger.info('\n' + metrics_table(found, f'{title}, with visual neighbours'))
                metrics |= {f'visual_neighbours/scored/{key}': v for key, v in found.items()}
        return metrics

    def _joined(self, results: list[dict], key: str) -> torch.Tensor:
        values = [record[key] for record in results]
        join = torch.stack if key in PER_IMAGE else torch.cat
        return join(values).to(self._device)


def _kept(value: Any) -> Any:
    return value.detach() if torch.is_tensor(value) else int(value)


def _move_together(records: list[dict], key: str) -> None:
    """Brings one tensor of every record into host memory by one copy."""
    values = [record[key] for record in records]
    if key in PER_IMAGE:
        moved = torch.stack(values).cpu()
    else:
        moved = torch.cat(values).cpu().split([len(value) for value in values])
    for record, value in zip(records, moved, strict=True):
        record[key] = value
