"""Takes a further view of the images from a batch."""

from torch import Tensor


def take_view(batch: dict, index: int) -> Tensor:
    """Returns view ``index`` (B, 3, H, W) of ``batch['views']`` (B, V, 3, H, W).

    Raises:
        KeyError: If the batch has no views.
        ValueError: If it has too few, or they are still pixels.
    """
    if 'views' not in batch:
        raise KeyError(
            "the batch has no 'views': put MakeViews into the training pipeline and "
            "PackPair(per_image=['views']) at its end"
        )
    views = batch['views']
    if not views.is_floating_point():
        raise ValueError(
            "the 'views' of the batch are not normalised: put also=['views'] into data_preprocessor"
        )
    if index >= views.shape[1]:
        raise ValueError(
            f'a head reads view {index} (from 0), but MakeViews makes {views.shape[1]}'
        )
    return views[:, index]
