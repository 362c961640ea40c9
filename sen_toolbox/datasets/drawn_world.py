"""The drawn world, made when it is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sen_toolbox.registry import DATASETS

from .cuhk_pedes import CUHKPEDES
from .layout import Layout
from .synthetic import WORLD_PICTURES, write_drawn_world
from .synthetic.write_world import WORLD_PARAMETERS
from .synthetic_pedes import draw_once


@DATASETS.register_module()
class DrawnWorld(CUHKPEDES):
    """Drawn pictures of anything with captions such as the web has; pretrains the tiny towers.

    Each picture is an identity of its own. Draws the data set if the folder has none and completes
    one whose drawing was interrupted.

    Args:
        data_root: Folder of the data set; made if needed.
        num_pictures: Pictures of each split.
        captions_per_image: Captions of each picture.
        image_size: (rows, columns) in pixels.
        seed: Decides every picture and caption.
        **kwargs: The other arguments of ``PedesDataset``.

    Raises:
        ValueError: If the folder holds a data set that was not drawn with these numbers.
    """

    LAYOUT = Layout(
        name='DrawnWorld', short_name='world', root='data/drawn_world', read_as='CUHKPEDES'
    )

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder was drawn so."""
        return (root / WORLD_PARAMETERS).is_file()

    def __init__(
        self,
        *,
        data_root: str | Path,
        num_pictures: Mapping[str, int] = WORLD_PICTURES,
        captions_per_image: int = 4,
        image_size: tuple[int, int] = (128, 64),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.recipe = {
            'num_pictures': dict(num_pictures),
            'captions_per_image': captions_per_image,
            'image_size': tuple(image_size),
            'seed': seed,
        }
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Draws the data set if needed and reads it."""
        draw_once(write_drawn_world, self.data_root, self.recipe)
        return super().load_data_list()
