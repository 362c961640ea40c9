"""open_clip loads exported towers and gives the same embeddings; they come back bit by bit."""

import json
import shutil

import open_clip
import pytest
import torch
from closeness import assert_same
from PIL import Image
from tiny import NORMALISE, clip_config
from toy_data import run_tool

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.datasets.transforms import LoadImage, ResizeImage
from sen_toolbox.models.open_clip_config import OWN
from sen_toolbox.registry import BACKBONES, MODELS
from sen_toolbox.text.tokenizers import CLIPTokenizer

pytestmark = pytest.mark.numeric

CAPTIONS = ['A woman in a red coat.', 'a man with a black backpack and white shoes']


def write_model(folder, backbone, heads=None, normalise=NORMALISE):
    """Config and checkpoint of a retriever with these towers."""
    torch.manual_seed(0)
    heads = heads or dict(sdm=dict(type='MatchingHead', loss=dict(type='SDMLoss')))
    model = dict(
        type='TextImageRetriever',
        backbone=backbone,
        heads=heads,
        loss_weights=dict.fromkeys(heads, 1.0),
        data_preprocessor=dict(type='PairPreprocessor', **normalise),
    )
    (folder / 'config.py').write_text(f'model = {model!r}\n')
    retriever = MODELS.build(model).eval()
    torch.save(dict(state_dict=retriever.state_dict(), meta={}), folder / 'best.pth')
    return folder / 'config.py', folder / 'best.pth', retriever


def compare(model, retriever, preprocess, tokenizer, tmp_path):
    """Embeddings of a file and of sentences, each with its own library's preprocessing."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (90, 41, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / 'person.png')
    spec = retriever.backbone.spec
    results = ResizeImage(spec.image.image_size)(
        LoadImage()(dict(img_path=str(tmp_path / 'person.png')))
    )
    image = torch.from_numpy(results['img']).permute(2, 0, 1)[None]
    tokens = CLIPTokenizer(spec.text.context_length)(CAPTIONS).map(torch.from_numpy)
    with torch.no_grad(), Image.open(tmp_path / 'person.png') as picture:
        ours = retriever.data_preprocessor(dict(images=image))['images']
        theirs = preprocess(picture)[None]
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
        pair = retriever.backbone(ours, tokens)
        assert_same(model.encode_image(theirs), pair.image.embedding)
        assert torch.equal(tokenizer(CAPTIONS), tokens.ids)
        assert_same(model.encode_text(tokens.ids), pair.text.embedding)


LOOKS = dict(image_resize_mode='squash', image_interpolation='bilinear')


# The second has a last row and column of pixels that no patch sees, the third another text length.
@pytest.mark.parametrize(
    ('size', 'patch', 'length', 'suffix'),
    [((96, 32), 16, 77, 'pt'), ((66, 33), 8, 77, 'safetensors'), ((128, 32), 16, 100, 'pt')],
)
def test_open_clip_gives_the_same_embeddings(tmp_path, capsys, size, patch, length, suffix):
    backbone = clip_config(image_size=size, patch_size=patch, text=dict(context_length=length))
    normalise = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.25, 0.3])
    config, checkpoint, retriever = write_model(tmp_path, backbone, normalise=normalise)
    out = tmp_path / f'towers{patch}_{length}.{suffix}'
    run_tool('export_towers', config, checkpoint, out)
    # What the tool prints is what a user runs.
    printed = capsys.readouterr().out.split('in Python:\n')[1]
    scope = dict(open_clip=open_clip)
    exec(printed, scope)
    model = scope['model'].eval()
    compare(model, retriever, scope['preprocess'], scope['tokenizer'], tmp_path)


def test_an_architecture_of_open_clip_needs_no_description(tmp_path):
    backbone = dict(
        type='DualEncoder',
        image=dict(type='CLIPVisionTransformer', arch='tiny', image_size=(96, 32)),
        text=dict(type='CLIPTextTransformer', arch='tiny'),
    )
    config, checkpoint, retriever = write_model(tmp_path, backbone)
    run_tool('export_towers', config, checkpoint, tmp_path / 'sen.pt')
    (tmp_path / 'sen.json').unlink()
    open_clip.add_model_config(OWN)  # as if it came with open_clip
    model, _, preprocess = open_clip.create_model_and_transforms(
        'tiny', pretrained=str(tmp_path / 'sen.pt'), force_image_size=(96, 32), **LOOKS
    )
    compare(model.eval(), retriever, preprocess, open_clip.get_tokenizer('tiny'), tmp_path)
    # A grid of 6 x 2 cannot be resized to the architecture's 4 x 4.
    with pytest.raises(RuntimeError):
        open_clip.create_model_and_transforms('tiny', pretrained=str(tmp_path / 'sen.pt'))


# 64 patches in a grid of 16 x 4 must not be taken for 8 x 8.
@pytest.mark.parametrize('size', [(96, 32), (256, 64)])
@pytest.mark.parametrize('suffix', ['pt', 'safetensors'])
def test_towers_come_back_from_open_clip_bit_by_bit(tmp_path, size, suffix):
    backbone = clip_config(image_size=size, layers=1)
    config, checkpoint, retriever = write_model(tmp_path, backbone)
    out = tmp_path / f'towers.{suffix}'
    run_tool('export_towers', config, checkpoint, out)
    weights = dict(pretrained=str(out))
    back = clip_config(image_size=size, layers=1, image=weights, text=weights)
    back = BACKBONES.build(back)
    back.load_weights()
    expected = retriever.backbone.state_dict()
    assert list(back.state_dict()) == list(expected)
    for key, value in back.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_the_scale_is_a_learnt_one_or_that_of_clip(tmp_path):
    heads = dict(
        contrast=dict(
            type='ScaledMatchingHead',
            losses=dict(nitc=dict(type='NITCLoss')),
            weights=dict(nitc=1.0),
            initial_scale=50.0,
        )
    )
    for given, expected in [(heads, 50.0), (None, 100.0)]:
        config, checkpoint, _ = write_model(tmp_path, clip_config(image_size=(32, 32)), given)
        run_tool('export_towers', config, checkpoint, tmp_path / 'x.pt')
        state = load_checkpoint_file(str(tmp_path / 'x.pt'))['state_dict']
        assert state['logit_scale'].exp().item() == pytest.approx(expected, rel=1e-5)
        assert all(key.split('.')[0] != 'heads' for key in state)


def test_the_description_has_sizes_of_rows_and_columns(tmp_path):
    config, checkpoint, _ = write_model(tmp_path, clip_config(image_size=(96, 32)))
    run_tool('export_towers', config, checkpoint, tmp_path / 'x.safetensors')
    description = json.loads((tmp_path / 'x.json').read_text())
    assert description['vision_cfg']['image_size'] == [96, 32]
    assert description['text_cfg']['context_length'] == 77


def test_overlapping_patches_are_refused(tmp_path):
    config, checkpoint, _ = write_model(
        tmp_path, clip_config(image_size=(96, 32), image=dict(stride=12))
    )
    with pytest.raises(ValueError, match='no patches that overlap: stride 12, patch size 16'):
        run_tool('export_towers', config, checkpoint, tmp_path / 'x.pt')


def test_other_encoders_and_projections_are_refused(tmp_path):
    backbone = clip_config(image_size=(96, 32))
    resnet = dict(type='ResNet', depth=10, image_size=(96, 32))
    config, checkpoint, _ = write_model(tmp_path, {**backbone, 'image': resnet, 'embed_dim': 64})
    with pytest.raises(ValueError, match="CLIP's transformers are .*, not ResNet and CLIPText"):
        run_tool('export_towers', config, checkpoint, tmp_path / 'x.pt')
    config, checkpoint, _ = write_model(tmp_path, {**backbone, 'embed_dim': 64})
    with pytest.raises(ValueError, match='no projections of both encoders to embed_dim=64'):
        run_tool('export_towers', config, checkpoint, tmp_path / 'x.pt')


def test_embeddings_of_heads_are_said_to_be_left_out(tmp_path, capsys):
    loss = dict(type='TripletAlignmentLoss', margin=0.1, temperature=0.015)
    neck = dict(type='TokenSelection', ratio=0.3, width=8)
    heads = dict(tse=dict(type='TokenSelectionHead', neck=neck, loss=loss))
    config, checkpoint, _ = write_model(tmp_path, clip_config(image_size=(96, 32)), heads)
    run_tool('export_towers', config, checkpoint, tmp_path / 'x.pt')
    assert "left out: the embeddings of the heads ['tse']" in capsys.readouterr().out


def test_a_checkpoint_of_other_towers_is_refused_and_nothing_written(tmp_path):
    config, _, _ = write_model(tmp_path, clip_config(image_size=(96, 32)))
    state = {'backbone.image.proj': torch.zeros(3, 3)}
    torch.save(dict(state_dict=state), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth does not fit the model: missing'):
        run_tool('export_towers', config, tmp_path / 'other.pth', tmp_path / 'x.pt')
    assert not (tmp_path / 'x.pt').exists()


def test_a_file_of_another_kind_is_refused(tmp_path, capsys):
    config, checkpoint, _ = write_model(tmp_path, clip_config(image_size=(96, 32)))
    with pytest.raises(SystemExit):
        run_tool('export_towers', config, checkpoint, tmp_path / 'x.bin')
    assert 'must be called *.pt or *.safetensors' in capsys.readouterr().err


def test_what_this_tool_did_not_write_is_not_written_over(tmp_path):
    config, checkpoint, _ = write_model(tmp_path, clip_config(layers=1, image_size=(32, 32)))
    (tmp_path / 'sen.json').write_text('{"my": "settings"}')
    for name in ('sen.pt', 'sen.safetensors'):
        with pytest.raises(ValueError, match=r'sen\.json exists and was not written by this'):
            run_tool('export_towers', config, checkpoint, tmp_path / name)
    shutil.copy(checkpoint, tmp_path / 'mine.pt')
    with pytest.raises(ValueError, match=r'mine\.pt exists and was not written by this'):
        run_tool('export_towers', config, checkpoint, tmp_path / 'mine.pt')
    (tmp_path / 'sen.json').unlink()
    for _ in ('written', 'written again'):
        run_tool('export_towers', config, checkpoint, tmp_path / 'sen.pt')
