"""Boards of a training in progress, as pictures of the Visualizer: files and TensorBoard.

They show the weights that were validated, touch no generator of random numbers and change nothing
in the model, so a run with them ends with the same bits as one without.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from sen_toolbox.checks import checked_at_least
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS
from sen_toolbox.text.tokens import Tokens, joined
from sen_toolbox.visualization import draw_illustration_board, draw_retrieval_board
from sen_toolbox.visualization.illustration_board import WRONG_TITLE
from sen_toolbox.visualization.results import (
    illustrated_rows,
    illustrating_head,
    other_person,
    ranked_queries,
    spread,
)


class _BoardHook(Hook):
    # Before EMAHook, which takes the averaged weights away after validation.
    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int) -> None:
        self.interval = checked_at_least('interval', interval, 1)

    def _is_due(self, runner: Runner) -> bool:
        return runner.epoch % self.interval == 0


@HOOKS.register_module()
class RetrievalBoardHook(_BoardHook):
    """Shows after validation what a few captions find: always the same ones, evenly spread.

    Uses the embeddings that validation computes.

    Args:
        interval: Epochs between boards.
        num_queries: Captions to search for.
        topk: Images a caption.

    Raises:
        ValueError: If ``interval`` is below 1.
    """

    def __init__(self, *, interval: int = 1, num_queries: int = 6, topk: int = 10) -> None:
        super().__init__(interval)
        self.num_queries = num_queries
        self.topk = topk

    def before_val_epoch(self, runner: Runner) -> None:
        """Forgets the embeddings of the last time."""
        self._images: list[torch.Tensor] = []
        self._texts: list[torch.Tensor] = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keeps the embeddings of the images and of their first captions."""
        if self._is_due(runner):
            self._images += [record['image_embedding'] for record in outputs]
            self._texts += [record['text_embeddings'][0] for record in outputs]

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draws the board."""
        if not self._is_due(runner):
            return
        loader = runner.val_dataloader
        # A sampler of an evaluation gives the same order again.
        places = dict(zip(loader.sampler, zip(self._images, self._texts, strict=True), strict=True))
        shares = all_gather_object(
            {i: (image.float().cpu(), text.float().cpu()) for i, (image, text) in places.items()}
        )
        self._images, self._texts = [], []
        if not is_main_process():
            return
        found = {index: pair for share in shares for index, pair in share.items()}
        records = [loader.dataset.get_data_info(index) for index in sorted(found)]
        images, texts = map(torch.stack, zip(*(found[i] for i in sorted(found)), strict=True))
        shown = spread(len(records), self.num_queries)
        rows = ranked_queries(
            [records[index]['captions'][0] for index in shown],
            [records[index]['person_id'] for index in shown],
            texts[shown] @ images.T,
            records,
            topk=self.topk,
        )
        board = draw_retrieval_board(
            rows, topk=self.topk, title=f'Text-to-image retrieval, epoch {runner.epoch}'
        )
        runner.visualizer.add_image('retrieval', np.asarray(board), step=runner.epoch)


@HOOKS.register_module()
class IllustrationBoardHook(_BoardHook):
    """Shows after validation what a head does to a few images, by their own and a wrong caption.

    Always the same images, evenly spread, and the same draws.

    Args:
        interval: Epochs between boards.
        num_images: Images to show.

    Raises:
        ValueError: If ``interval`` is below 1.
    """

    def __init__(self, *, interval: int = 1, num_images: int = 4) -> None:
        super().__init__(interval)
        self.num_images = num_images

    def before_train(self, runner: Runner) -> None:
        """Raises KeyError if no head of the model illustrates."""
        model = unwrapped(runner.model)
        if illustrating_head(model) is None:
            raise KeyError(
                f'no head of the model draws a board; its heads are {sorted(model.heads)}'
            )

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draws the board."""
        if not self._is_due(runner):
            return
        dataset, model = runner.val_dataloader.dataset, unwrapped(runner.model)
        records = [dataset.get_data_info(index) for index in range(len(dataset))]
        person_ids = [record['person_id'] for record in records]
        shown = spread(len(dataset), self.num_images)
        images = torch.stack([dataset[index]['images'] for index in shown])
        batch = dict(images=images, tokens=_first_captions(dataset, shown))
        others = {}
        # Of a single identity every caption is right.
        if len(set(person_ids)) > 1:
            wrong = [other_person(person_ids, index) for index in shown]
            texts = [records[index]['captions'][0] for index in wrong]
            others[WRONG_TITLE] = (_first_captions(dataset, wrong), texts)
        rows = illustrated_rows(
            model,
            model.data_preprocessor(batch),
            [records[index]['captions'][0] for index in shown],
            others=others,
        )
        board = draw_illustration_board(rows, title=f'Epoch {runner.epoch}')
        runner.visualizer.add_image('illustration', np.asarray(board), step=runner.epoch)


def _first_captions(dataset: Dataset, indices: Sequence[int]) -> Tokens:
    return joined([dataset[index]['tokens'][:1] for index in indices], torch.cat)
