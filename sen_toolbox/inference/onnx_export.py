"""Writes a model as one ONNX file."""

import base64
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.onnx_encoder import FORMAT, METADATA, OnnxEncoder
from sen_toolbox.inference.onnx_recurrence import TRANSLATION
from sen_toolbox.inference.seal import OPEN, SEAL, seal
from sen_toolbox.io import atomic_path
from sen_toolbox.text.tokens import Tokens

if TYPE_CHECKING:
    import onnx

# What exported and original embeddings may differ by.
TOLERANCE = 1e-4
INPUTS = ['images', 'ids', 'mask', 'end']
OUTPUTS = ['image_embedding', 'text_embedding']


class _Images(nn.Module):
    """Pixels to unit vectors."""

    def __init__(self, retriever: nn.Module) -> None:
        super().__init__()
        self.retriever = retriever

    def forward(self, images: Tensor) -> Tensor:
        return _embed_images(self.retriever, images)


class _Sentences(nn.Module):
    """Tokens to unit vectors, with nothing that depends on data."""

    def __init__(self, retriever: nn.Module) -> None:
        super().__init__()
        self.retriever = retriever

    def forward(self, ids: Tensor, mask: Tensor, end: Tensor) -> Tensor:
        return _embed_tokens(self.retriever, ids, mask, end)


class _Both(nn.Module):
    """Both in one graph, so that an exported model is one file."""

    def __init__(self, retriever: nn.Module) -> None:
        super().__init__()
        # Once for both: torch traces a weight, and writes it, under each of its names.
        self.retriever = retriever

    def forward(
        self, images: Tensor, ids: Tensor, mask: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor]:
        vectors = _embed_images(self.retriever, images)
        return vectors, _embed_tokens(self.retriever, ids, mask, end)


def _embed_images(retriever: nn.Module, images: Tensor) -> Tensor:
    pixels = retriever.data_preprocessor(dict(images=images))['images']
    return retriever.embed_images(pixels)


def _embed_tokens(retriever: nn.Module, ids: Tensor, mask: Tensor, end: Tensor) -> Tensor:
    return retriever.embed_tokens(Tokens(ids, mask, end))


def export_onnx(encoder: Encoder, out: str | Path, *, int8: bool = False) -> float:
    """Writes both encoders; batch sizes and, where padding may be cut, lengths are free.

    Inputs are ``images`` (B, 3, rows, columns) uint8, RGB, prepared, and ``ids`` (n, L) int64,
    ``mask`` (n, L) bool and ``end`` (n,) int64 of ``Tokens``, of which those may be missing that
    the model does not read; outputs ``image_embedding`` (B, D) and ``text_embedding`` (n, D),
    L2-normalised. Either batch may be empty.

    Args:
        encoder: The model, in float32 on the CPU.
        out: The file to write, ``.onnx``.
        int8: Whether to store the weights of linear layers in 8 bits, one scale a channel, and
            multiply in 8 bits: smaller and faster where they are most of the model. It is
            another model to an index.

    Returns:
        How much the exported embeddings differ from the original ones at most, on random input.

    Raises:
        ModuleNotFoundError: If onnx, onnxscript or onnxruntime is missing.
        ValueError: If ``out`` has another suffix, or the model cannot be exported.
    """
    out = Path(out)
    if out.suffix != '.onnx':
        raise ValueError(f'an exported model is called *.onnx, got {out}')
    try:
        import onnx
        import onnxscript  # noqa: F401, which the exporter of torch needs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the export takes {error.name}: pip install "sen-toolbox[onnx]"'
        ) from error
    description = describe_export(encoder, int8=int8)
    images, tokens = _example(encoder)
    program = _program(encoder, images, tokens)
    with atomic_path(out) as partial:
        program.save(partial, external_data=False)
        if int8:
            _quantise(partial)
        content = onnx.load(partial)
        _drop_unused_inputs(content.graph)
        text = json.dumps({SEAL: OPEN, **description})
        onnx.helper.set_model_props(content, {METADATA: text})
        partial.write_bytes(seal(content.SerializeToString()))
        difference = _difference(encoder, OnnxEncoder(partial), images.numpy())
        if not int8 and difference > TOLERANCE:
            raise ValueError(
                f'{description["name"]}: exported embeddings differ by {difference:.1e}, more than '
                f'{TOLERANCE:.0e}'
            )
    return difference


def describe_export(encoder: Encoder, *, int8: bool) -> dict:
    """What an exported file says of its model."""
    known, processor, suffix = encoder.model_id, encoder.processor, ' (int8)' if int8 else ''
    return dict(
        format=FORMAT,
        name=f'{known.name}{suffix}',
        fingerprint=f'{known.fingerprint}{suffix}',
        dim=known.dim,
        image_size=processor.image_size,
        steps=processor.describe(),
        tokenizer=processor.tokenizer.describe(),
        tokenizes_alone=processor.tokenizes_alone,
        cuts_padding=encoder.model.backbone.spec.text.cuts_padding,
        usual_scores=list(encoder.usual_scores),
        words=base64.b64encode(np.packbits(encoder.known_tokens).tobytes()).decode(),
    )


def _example(encoder: Encoder) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Two images, and ids, mask and end of three sentences."""
    generator = torch.Generator().manual_seed(0)
    size = (2, 3, *encoder.processor.image_size)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    tokens = encoder.tokens(['a man', 'a woman', 'a hat'])
    if encoder.model.backbone.spec.text.cuts_padding:
        # A length that is free differs from those in the graph: that of the sentences themselves,
        # and, if the rows were not copied, that of which they are a part.
        tokens = tokens.cut(int(tokens.lengths.max()) + 1).map(Tensor.contiguous)
    return images, (tokens.ids, tokens.mask, tokens.end)


def _program(
    encoder: Encoder, images: Tensor, tokens: tuple[Tensor, ...]
) -> torch.onnx.ONNXProgram:
    """Both encoders in ONNX.

    Raises:
        ValueError: If one of them cannot be exported; names it.
    """
    model, text = encoder.model, encoder.model.backbone.spec.text
    # Any size. Without the bound, torch 2.6 takes a slice of all there is for another program.
    batch, sentences = (torch.export.Dim(name, max=2**31) for name in ('batch', 'sentences'))
    rows = {0: sentences}
    if text.cuts_padding:
        rows[1] = torch.export.Dim('length', max=text.context_length)
    of_images, of_tokens = ({0: batch},), (rows, rows, {0: sentences})
    try:
        return _converted(
            _Both(model), (images, *tokens), (*of_images, *of_tokens), INPUTS, OUTPUTS
        )
    # The exporter hands on whatever a model raises of what it is traced with.
    except Exception as error:
        failed = error
    for side, part, example, sizes, names in (
        ('image', _Images(model), (images,), of_images, INPUTS[:1]),
        ('text', _Sentences(model), tokens, of_tokens, INPUTS[1:]),
    ):
        try:
            _converted(part, example, sizes, names, [f'{side}_embedding'])
        except Exception as error:
            raise ValueError(
                f'{encoder.model_id.name!r} cannot be exported to ONNX, because of its '
                f'{_parts_of(model, side)}: {_reason(error)}'
            ) from error
    raise ValueError(
        f'{encoder.model_id.name!r} cannot be exported to ONNX: {_reason(failed)}'
    ) from failed


def _converted(
    module: nn.Module, example: tuple, sizes: tuple, inputs: list[str], outputs: list[str]
) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings(), _errors_alone('torch.onnx'), _errors_alone('onnxscript'):
        # They are remarks on the exporter's own parts, for its developers.
        warnings.simplefilter('ignore')
        # Traced here and not by the exporter: that one falls back to sizes that are not free.
        traced = torch.export.export(module.eval(), example, dynamic_shapes=sizes, strict=False)
        return torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort, **TRANSLATION},
        )


@contextmanager
def _errors_alone(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    former = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(former)


def _stable_sort(x, *, stable, dim, descending=False):
    """What the exporter lacks; TopK of ONNX puts the earlier of equal values first."""
    from onnxscript import opset18 as op

    if dim == 0:
        raise ValueError('a sort along the batch cannot be exported')
    first, end, size = (op.Constant(value_ints=[value]) for value in (0, 1, x.shape.rank()))
    shape = op.Shape(x)
    rows = op.Slice(shape, first, end)
    # A row of zeros goes along: of no row at all, onnxruntime up to 1.30 makes a division by zero,
    # which ends the process.
    row = op.CastLike(op.ConstantOfShape(op.Concat(end, op.Slice(shape, end, size), axis=0)), x)
    count = op.Gather(shape, op.Constant(value_ints=[dim]))
    found = op.TopK(op.Concat(x, row, axis=0), count, axis=dim, largest=descending, sorted=True)
    return tuple(op.Slice(values, first, rows, first) for values in found)


def _reason(error: BaseException) -> str:
    """What came first, in one line; the exporter wraps it in advice to its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition('\n')[0]


def _parts_of(model: nn.Module, side: str) -> str:
    """What embeds the images, or the texts, as a config calls it."""
    encoder = getattr(model.backbone, side, model.backbone)
    heads = [f' or its head {name!r}' for name in model.embedding_heads]
    return f'{side} encoder {type(encoder).__name__}{"".join(heads)}'


def _difference(encoder: Encoder, exported: OnnxEncoder, images: np.ndarray) -> float:
    sentences = ['a woman in a red coat, with a bag', 'a man']
    pairs = (
        (encoder.embed_prepared(images), exported.embed_prepared(images)),
        (encoder.embed_text(sentences), exported.embed_text(sentences)),
    )
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def _drop_unused_inputs(graph: 'onnx.GraphProto') -> None:
    """The exporter keeps them, with sizes that are not free."""
    used = {name for node in graph.node for name in node.input}
    for given in [given for given in graph.input if given.name not in used]:
        graph.input.remove(given)


def _quantise(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # The shapes, without which onnxruntime advises the user's terminal to run this first. torch has
    # simplified the graph already.
    quant_pre_process(path, path, skip_optimization=True, skip_symbolic_shape=True)
    # The convolution that cuts patches stays as it is: in 8 bits it is the slower one.
    quantize_dynamic(
        path,
        path,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=['MatMul', 'Gemm'],
    )
