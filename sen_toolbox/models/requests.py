"""Checks of what an encoder is asked for."""

from torch import Tensor, nn

from sen_toolbox.text.tokens import Tokens

# Every encoder fills these fields; nobody has to declare them.
ALWAYS = frozenset({'embedding', 'mask', 'end'})


def check_image_request(
    encoder: nn.Module, images: Tensor, reads: frozenset[str], keep: Tensor | None
) -> None:
    """Compares a call of an image encoder with its ``spec`` and with what it ``provides``.

    Raises:
        ValueError: If the images have another size, if it has no such features, or if it cannot
            encode some of the patches alone.
    """
    _check_reads(encoder, reads)
    if keep is not None and not encoder.spec.takes_some_patches:
        raise ValueError(f'{type(encoder).__name__} cannot encode some patches only')
    if tuple(images.shape[2:]) != encoder.spec.image_size:
        raise ValueError(
            f'expected images of {encoder.spec.image_size} (rows, columns), '
            f'got {tuple(images.shape[2:])}; resize them in the pipeline'
        )


def check_text_request(encoder: nn.Module, tokens: Tokens, reads: frozenset[str]) -> None:
    """Compares a call of a text encoder with its ``spec`` and with what it ``provides``.

    Raises:
        ValueError: If the captions are too long, or if it has no such features.
    """
    _check_reads(encoder, reads)
    if tokens.ids.shape[1] > encoder.spec.context_length:
        raise ValueError(
            f'captions of {tokens.ids.shape[1]} tokens exceed the context of '
            f'{encoder.spec.context_length}'
        )


def _check_reads(encoder: nn.Module, reads: frozenset[str]) -> None:
    if unknown := sorted(reads - encoder.provides - ALWAYS):
        raise ValueError(
            f'{type(encoder).__name__} has no {unknown}, only {sorted(encoder.provides)}'
        )
