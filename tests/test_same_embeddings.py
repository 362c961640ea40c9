"""Boards, analysis, search, model files and exports embed as the evaluation of a config does.

Every config under configs/ and projects/ takes part by being there.
"""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from closeness import assert_same
from mmengine.runner import Runner
from PIL import Image
from small_configs import small_config, write_config
from test_configs import CONFIGS
from toy_data import ROOT, write_toy_data

from sen_toolbox.config import load_config
from sen_toolbox.datasets.transforms import LoadImage
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.inference.model_file import save_model
from sen_toolbox.inference.onnx_encoder import OnnxEncoder
from sen_toolbox.inference.onnx_export import TOLERANCE, export_onnx
from sen_toolbox.inference.processor import Processor
from sen_toolbox.registry import DATASETS, MODELS
from sen_toolbox.search import PersonSearch

pytestmark = [pytest.mark.numeric, pytest.mark.slow]

CAPTIONS = [
    ['A woman (about 30) in a RED coat; "short" hair, with a bag!', 'a man'],
    ["He's wearing blue jeans... and a t-shirt: white, it seems; he carries two bags. " * 5],
    ['She walks.', 'coat', 'Caf\u00e9 & black/white shoes #1 ~ a boy*'],
]
ROTATED = 6  # EXIF: to be shown rotated by 90 degrees clockwise


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A test split: a JPEG that is to be turned, a JPEG and a grey one, with odd captions."""
    records = [
        dict(split='test', file_path=f'test/{n}.jpg', id=n, captions=texts, _colours=('red', 'red'))
        for n, texts in enumerate(CAPTIONS)
    ]
    root = write_toy_data(tmp_path_factory.mktemp('data'), records=records)
    rng = np.random.default_rng(0)
    for number in range(len(CAPTIONS)):
        pixels = Image.fromarray(rng.integers(0, 256, (12, 7, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[274] = ROTATED if number == 0 else 1
        pixels = pixels.resize((70, 150)).convert('L' if number == 2 else 'RGB')
        pixels.save(root / 'imgs' / 'test' / f'{number}.jpg', quality=95, exif=exif)
    return root


@pytest.fixture(scope='module')
def exported():
    """What has been exported: the layers of each model."""
    return set()


@pytest.fixture(scope='module')
def compared():
    """Models and pipelines that agreed: configs of several data sets often differ in neither."""
    return set()


@pytest.fixture(params=CONFIGS)
def case(request, data, compared, tmp_path):
    """A config with small encoders, its checkpoint, and what the evaluation makes of the data.

    None if another config has the same model and test pipeline, and so the same numbers.
    """
    config = small_config(request.param, data)
    parts = repr((config.model, config.test_dataloader.dataset.pipeline))
    if parts in compared:
        return None
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    _disturb_batch_norm(model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'best.pth')
    write_config(config, tmp_path / 'config.py')
    loader = config.test_dataloader
    pipeline = loader.dataset.pipeline
    dataset = dict(type='CUHKPEDES', data_root=str(data), split='test', pipeline=pipeline)
    loader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
    batches = Runner.build_dataloader({**loader, 'dataset': DATASETS.build(dataset)}, seed=0)
    model.eval()
    with torch.no_grad():
        records = [record for batch in batches for record in model.val_step(batch)]
    assert [len(record['text_embeddings']) for record in records] == [2, 1, 3]
    return SimpleNamespace(
        parts=parts,
        config=config,
        path=tmp_path / 'config.py',
        checkpoint=tmp_path / 'best.pth',
        files=[data / 'imgs' / 'test' / f'{number}.jpg' for number in range(len(CAPTIONS))],
        captions=[text for texts in CAPTIONS for text in texts],
        images=torch.stack([record['image_embedding'] for record in records]),
        texts=torch.cat([record['text_embeddings'] for record in records]),
    )


def _disturb_batch_norm(model):
    """Statistics as training leaves them, so that not using them is seen."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)


def test_every_way_to_embed_gives_what_the_evaluation_compares(
    case, exported, compared, tmp_path, caplog
):
    if case is not None:
        encoder = compare_every_way_to_embed(case, tmp_path)
        # Sizes and weights make no other export: each takes seconds.
        layers = layers_that_embed(encoder.model)
        if layers not in exported:
            caplog.clear()
            compare_the_export(case, encoder, tmp_path)
            # Python shows them on the terminal.
            shown = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert [record.getMessage() for record in shown] == []
            exported.add(layers)
        compared.add(case.parts)


def layers_that_embed(model):
    """The classes of all layers that an embedding goes through, and whether padding is cut."""
    heads = [model.heads[name] for name in model.embedding_heads]
    parts = [model.backbone, *(getattr(head, 'neck', head) for head in heads)]
    classes = frozenset(type(layer) for part in parts for layer in part.modules())
    return classes, model.backbone.spec.text.cuts_padding


def compare_every_way_to_embed(case, tmp_path):
    whole = Encoder.from_config(case.config, case.checkpoint, device='cpu')
    assert_same(torch.from_numpy(whole.embed_files(case.files)), case.images)
    assert_same(torch.from_numpy(whole.embed_text(case.captions)), case.texts)

    from_config = load_encoder(case.path, case.checkpoint)
    save_model(case.path, case.checkpoint, tmp_path / 'm.safetensors')
    from_file = load_encoder(tmp_path / 'm.safetensors')
    assert from_file.model_id.fingerprint == from_config.model_id.fingerprint
    assert from_file.model_id.dim == case.images.shape[1]
    for encoder in (from_config, from_file):
        assert_same(_searched(encoder, tmp_path, images=case.files), case.images)
        assert_same(_searched(encoder, tmp_path, texts=case.captions), case.texts)

    return from_file


def compare_the_export(case, encoder, tmp_path):
    export_onnx(encoder, tmp_path / 'm.onnx')
    exported = OnnxEncoder(tmp_path / 'm.onnx')
    images = _searched(exported, tmp_path, images=case.files)
    torch.testing.assert_close(images, case.images, rtol=0, atol=TOLERANCE)
    texts = _searched(exported, tmp_path, texts=case.captions)
    torch.testing.assert_close(texts, case.texts, rtol=0, atol=TOLERANCE)


def _searched(encoder, folder, *, texts=None, images=None):
    """Embeddings as a query gets them, and pictures as an index does."""
    search = PersonSearch(encoder, index=folder / f'index of {type(encoder).__name__}')
    return torch.from_numpy(search.embed(texts, images))


def test_the_data_would_show_a_picture_that_is_not_turned(data):
    turned = LoadImage()(dict(img_path=str(data / 'imgs' / 'test' / '0.jpg')))['img']
    assert turned.shape == (70, 150, 3)
    with Image.open(data / 'imgs' / 'test' / '0.jpg') as image:
        assert image.size == (70, 150)


def test_the_captions_would_show_a_step_that_is_left_out():
    config = load_config(ROOT / 'configs/tbps_clip/tbps_clip_vitb_cuhk.py')
    processor = Processor.from_config(config)
    captions = [text for texts in CAPTIONS for text in texts]
    ids = processor.prepare_texts(captions).ids
    assert not np.array_equal(ids, processor.tokenizer(captions).ids)
