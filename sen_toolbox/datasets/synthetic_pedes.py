"""Drawn persons, made when they are asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from sen_toolbox.registry import DATASETS

from .cuhk_pedes import CUHKPEDES
from .layout import Layout
from .synthetic import DRAWN_IDS, write_synthetic_pedes
from .synthetic.write import PARAMETERS


@DATASETS.register_module()
class SyntheticPedes(CUHKPEDES):
    """Drawn persons with generated captions, in the layout of CUHK-PEDES.

    Draws the data set if the folder has none and completes one whose drawing was interrupted.

    Args:
        data_root: Folder of the data set; made if needed.
        num_ids: Identities of each split.
        images_per_id: Images of each identity.
        captions_per_image: Captions of each image.
        brief_captions_per_image: Captions of a few words that each image of ``train`` has besides.
        image_size: (rows, columns) in pixels.
        seed: Decides every image and caption.
        **kwargs: The other arguments of ``PedesDataset``.

    Raises:
        ValueError: If the folder holds a data set that was not drawn with these numbers.
    """

    # Read as what it is laid out as, so that a folder drawn with any seed and size will do.
    LAYOUT = Layout(
        name='SyntheticPedes', short_name='synthetic', root='data/synthetic', read_as='CUHKPEDES'
    )

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder was drawn."""
        return (root / PARAMETERS).is_file()

    def __init__(
        self,
        *,
        data_root: str | Path,
        num_ids: Mapping[str, int] = DRAWN_IDS,
        images_per_id: int = 4,
        captions_per_image: int = 2,
        brief_captions_per_image: int = 0,
        image_size: tuple[int, int] = (128, 64),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.recipe = {
            'num_ids': dict(num_ids),
            'images_per_id': images_per_id,
            'captions_per_image': captions_per_image,
            'brief_captions_per_image': brief_captions_per_image,
            'image_size': tuple(image_size),
            'seed': seed,
        }
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Draws the data set if needed and reads it."""
        draw_once(write_synthetic_pedes, self.data_root, self.recipe)
        return super().load_data_list()


def draw_once(write: Callable[..., Path], data_root: str | Path, recipe: Mapping) -> None:
    """Writes a drawn set in one process while the others wait, and logs how far it is.

    Args:
        write: Draws what is missing; called with the folder, the recipe and ``progress``.
        data_root: The folder.
        recipe: Arguments of ``write``.
    """
    if is_main_process():
        write(data_root, **recipe, progress=_log_progress)
    barrier()


def _log_progress(done: int, total: int) -> None:
    # Ten lines suit a log file better than a bar.
    if done * 10 // total > (done - 1) * 10 // total:
        print_log(f'drew {done} of {total}', logger='current')
