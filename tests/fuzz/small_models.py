"""A retriever of a few kilobytes, in the ways in which models are kept."""

import base64
import json
import string

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from tiny import NORMALISE

from sen_toolbox.checkpoint.tensor_file import pack_tensors
from sen_toolbox.inference.model_file import FORMAT, METADATA, build_model
from sen_toolbox.inference.onnx_encoder import FORMAT as ONNX_FORMAT
from sen_toolbox.inference.seal import OPEN, seal

DIM, LENGTH = 16, 9
WORDS = ['a', 'man', 'woman', 'in', 'red', 'blue', 'coat', 'with', 'hat']
TOKENIZER = dict(
    type='VocabularyTokenizer', context_length=LENGTH, vocabulary=WORDS, lower_case=True,
    deleted=string.punctuation, separators='', unknown_id=True, pad_is_first_word=False,
    start=False, end=False,
)  # fmt: skip
STEPS = [
    dict(type='LoadImage'),
    dict(type='ResizeImage', size=[32, 16]),
    dict(type='Tokenize', tokenizer=TOKENIZER),
]


def description() -> dict:
    """What a model file says of a small transformer and a small recurrent network."""
    arch = dict(
        embed_dim=DIM,
        quick_gelu=True,
        vision_cfg=dict(layers=1, width=64, patch_size=16),
        text_cfg=dict(layers=1, width=8, heads=1, context_length=LENGTH, vocab_size=99),
    )
    return dict(
        format=FORMAT,
        name='small',
        steps=STEPS,
        usual_scores=[],
        model=dict(
            type='TextImageRetriever',
            heads={},
            loss_weights={},
            backbone=dict(
                type='DualEncoder',
                embed_dim=DIM,
                image=dict(type='CLIPVisionTransformer', arch=arch, image_size=[32, 16]),
                text=dict(type='RecurrentTextEncoder', hidden_dim=8, tokenizer=TOKENIZER),
            ),
            data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
        ),
    )


def weights() -> dict[str, torch.Tensor]:
    """The weights of that model."""
    torch.manual_seed(0)
    return build_model(description())[0].state_dict()


def model_file(state: dict, described: object) -> bytes:
    """A model file as its own tool would write it, whatever it says of the model."""
    return pack_tensors(state, {METADATA: json.dumps(described)})


def onnx_description() -> dict:
    """What the small graph says of itself."""
    return dict(
        format=ONNX_FORMAT, name='small', fingerprint='f', dim=DIM, image_size=[32, 16],
        steps=STEPS, tokenizer=TOKENIZER, tokenizes_alone=True, cuts_padding=False,
        usual_scores=[], words=base64.b64encode(bytes([255] * 4)).decode(), sha256=OPEN,
    )  # fmt: skip


def graph() -> onnx.ModelProto:
    """Means of a picture's columns, and the cosines of a sentence's ids."""

    def given(name: str, kind: int, *shape: object) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    projection = np.random.default_rng(0).standard_normal((LENGTH, DIM)).astype(np.float32)
    nodes = [
        helper.make_node('Cast', ['images'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMean', ['pixels', 'axes'], ['columns'], keepdims=0),
        helper.make_node('LpNormalization', ['columns'], ['image_embedding'], axis=1, p=2),
        helper.make_node('Cast', ['ids'], ['numbers'], to=TensorProto.FLOAT),
        helper.make_node('Cos', ['numbers'], ['waves']),
        helper.make_node('MatMul', ['waves', 'projection'], ['projected']),
        helper.make_node('LpNormalization', ['projected'], ['text_embedding'], axis=1, p=2),
    ]
    made = helper.make_graph(
        nodes,
        'small',
        [
            given('images', TensorProto.UINT8, 'n', 3, 32, 16),
            given('ids', TensorProto.INT64, 'm', LENGTH),
        ],
        [
            given('image_embedding', TensorProto.FLOAT, 'n', DIM),
            given('text_embedding', TensorProto.FLOAT, 'm', DIM),
        ],
        [
            helper.make_tensor('axes', TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor('projection', TensorProto.FLOAT, projection.shape, projection),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid('', 18)], ir_version=8)


def onnx_file(model: onnx.ModelProto, described: object, *, sealed: bool = True) -> bytes:
    """An exported model, whatever it says of itself; sealed only where it leaves room for that."""
    helper.set_model_props(model, {METADATA: json.dumps(described)})
    content = model.SerializeToString()
    return seal(content) if sealed else content
