"""Official checkpoints become ours and go back bit by bit; none of them runs code."""

import argparse
import hashlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny_rde
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from sen_toolbox.checkpoint.official import SEN_UNUSED
from sen_toolbox.search.model_file import load_towers
from tiny import clip_config, golden_state, irra_config, sen_config
from toy_data import run_tool, write_toy_config

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.models.backbones import weights
from sen_toolbox.registry import BACKBONES, MODELS

GOLDEN = {
    'sen': (sen_config, lambda: golden_state('sen_tiny')),
    'irra': (irra_config, lambda: golden_state('irra_tiny')),
    'rde': (tiny_rde.rde_config, tiny_rde.official_state),
}


def write_config(folder: Path, model: dict) -> Path:
    path = folder / 'config.py'
    path.write_text(f'model = {model!r}\n')
    return path


def as_released(state: dict) -> dict:
    """What the Checkpointer of SEN, IRRA and RDE writes: matrices in half precision."""
    state = {
        f'module.{key}': value.half() if value.is_floating_point() and value.ndim > 1 else value
        for key, value in state.items()
    }
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], lr=1e-5, eps=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    weight.sum().backward()
    optimizer.step()
    return dict(
        model=state,
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        num_epoch=60,
        iteration=0,
        epoch=3,
        args=argparse.Namespace(lr=1e-5, img_size=(384, 128)),  # not the releases, but forks
    )


@pytest.mark.slow
@pytest.mark.parametrize('method', list(GOLDEN))
def test_an_official_checkpoint_becomes_ours_and_goes_back_bit_by_bit(tmp_path, method):
    model, state = GOLDEN[method]
    config, released = write_config(tmp_path, model()), as_released(state())
    torch.save(released, tmp_path / 'best.pth')
    run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')
    ours = load_checkpoint_file(str(tmp_path / 'ours.pth'))['state_dict']
    MODELS.build(model()).load_state_dict(ours)
    assert {value.dtype for value in ours.values()} <= {torch.float32, torch.int64}

    run_tool(
        'convert_checkpoint', config, tmp_path / 'ours.pth', tmp_path / 'back.pth', '--to-official'
    )
    back = torch.load(tmp_path / 'back.pth', weights_only=True)['model']
    torch.save(dict(model=back), tmp_path / 'again.pth')
    run_tool('convert_checkpoint', config, tmp_path / 'again.pth', tmp_path / 'ours_again.pth')
    again = load_checkpoint_file(str(tmp_path / 'ours_again.pth'))['state_dict']
    assert list(again) == list(ours)
    assert all(torch.equal(again[key], ours[key]) for key in ours)
    if method == 'rde':  # its way here folds biases into running means
        return
    for key, value in released['model'].items():
        name = key.removeprefix('module.')
        if not name.startswith(SEN_UNUSED[1:]):
            assert torch.equal(back[name], value.float()), name
            # Half precision is widened, so nothing is lost on the way back to it.
            assert torch.equal(back[name].to(value.dtype), value), name


@pytest.fixture
def tbps_model():
    model = load_config('configs/tbps_clip/tbps_clip_vitb_cuhk.py').model
    model.backbone = clip_config(image_size=(64, 32))
    return model.to_dict()


def test_tbps_clip_is_converted_without_easydict(tmp_path, monkeypatch, tbps_model):
    config = write_config(tmp_path, tbps_model)
    expected = MODELS.build(tbps_model).state_dict()
    official = {}
    for key, value in expected.items():
        key = key.replace('heads.self_supervision.projection.', 'simclr_mlp.')
        key = key.replace('heads.contrast.', '').replace('backbone.visual.', 'visual.')
        official[key.replace('backbone.', 'encode_text.')] = value

    class EasyDict(dict):
        """Pickles as the package's class does: items, and the same as attributes."""

    EasyDict.__module__, EasyDict.__qualname__ = 'easydict', 'EasyDict'
    module = types.ModuleType('easydict')
    module.EasyDict = EasyDict
    settings = EasyDict(device='cuda:0', schedule=EasyDict(lr=1e-5, betas=[0.9, 0.98]))
    settings.__dict__.update(settings)
    # The release takes its learning rates from a numpy array.
    groups = [dict(lr=np.float64(1e-5), params=[0])]
    content = dict(model=official, optimizer=dict(state={}, param_groups=groups), config=settings)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'easydict', module)
        torch.save(content, tmp_path / 'checkpoint_best.pth')
    run_tool('convert_checkpoint', config, tmp_path / 'checkpoint_best.pth', tmp_path / 'ours.pth')
    ours = load_checkpoint_file(str(tmp_path / 'ours.pth'))['state_dict']
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[key], expected[key]) for key in expected)

    with pytest.raises(ValueError, match=r"TBPS-CLIP is not converted .* only \['SEN', 'IRRA'"):
        run_tool(
            'convert_checkpoint', config, tmp_path / 'ours.pth', tmp_path / 'x', '--to-official'
        )


def test_another_image_size_is_refused_with_both_shapes(tmp_path):
    config = write_config(tmp_path, irra_config(image_size=(256, 128)))
    torch.save(as_released(golden_state('irra_tiny')), tmp_path / 'best.pth')
    with pytest.raises(
        ValueError,
        match=r'visual.positional_embedding has shape \(193, 128\), expected \(129, 128\)',
    ):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')
    assert not (tmp_path / 'ours.pth').exists()


def test_the_checkpoint_of_another_method_is_refused_by_its_keys(tmp_path):
    config = write_config(tmp_path, sen_config())
    torch.save(as_released(golden_state('irra_tiny')), tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=r'have no place in the layout.*cross_attn\.'):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')


def test_missing_weights_are_named(tmp_path):
    config = write_config(tmp_path, sen_config())
    released = as_released(golden_state())
    del released['model']['module.decoder_pred.bias']
    torch.save(released, tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=r'missing heads.restoration.neck.predict.bias'):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')
    torch.save(dict(epoch=1, args=argparse.Namespace()), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match=r"no weights under 'model', only \['epoch', 'args'\]"):
        run_tool('convert_checkpoint', config, tmp_path / 'empty.pth', tmp_path / 'ours.pth')


def person_pretrained(folder: Path, config: dict, **others) -> tuple[str, dict]:
    """A file as NAM's, HAM's or GA-DMS's: IRRA's layout, with heads; and its towers."""
    towers = {k: v.half().float() for k, v in BACKBONES.build(config).state_dict().items()}
    state = {f'base_model.{key}': value for key, value in towers.items()}
    state |= {'classifier.weight': torch.zeros(3, 64), 'mlm_head.fc.bias': torch.zeros(5)}
    torch.save(as_released(state | others), folder / 'person.pth')
    return str(folder / 'person.pth'), towers


# 16 patches in a grid of 8 x 2 are not taken for CLIP's 4 x 4.
@pytest.mark.parametrize('image_size', [(96, 32), (128, 32)])
def test_person_pretrained_towers_start_a_model_and_their_heads_are_reported(
    tmp_path, monkeypatch, image_size
):
    said = []
    monkeypatch.setattr(weights, 'print_log', lambda text, **_: said.append(text))
    config = clip_config(image_size=image_size)
    file, towers = person_pretrained(tmp_path, config)
    backbone = BACKBONES.build({**config, 'pretrained': file})
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, towers[key]), key
    assert said == [f'{file}: takes base_model.*, does not use classifier, mlm_head']


def test_person_pretrained_towers_that_do_not_fit_are_refused_by_name(tmp_path):
    config = clip_config(image_size=(96, 32))
    extra = {'base_model.visual.adapter.weight': torch.zeros(2)}
    file, _ = person_pretrained(tmp_path, config, **extra)
    with pytest.raises(ValueError, match='unexpected visual.adapter.weight'):
        BACKBONES.build({**config, 'pretrained': file}).init_weights()
    with pytest.raises(ValueError, match='has 12 patches, the model has 8 x 2'):
        BACKBONES.build({**clip_config(image_size=(128, 32)), 'pretrained': file}).init_weights()


class Harm:
    def __reduce__(self):
        return (exec, ("open('harmed', 'w').close()",))


def build_pretrained(file: str) -> None:
    BACKBONES.build(clip_config(image_size=(64, 32), pretrained=file)).init_weights()


def build_pretrained_open_clip(file: str) -> None:
    arch = dict(
        embed_dim=16,
        vision_cfg=dict(layers=[1, 1, 1, 1], width=8, image_size=32, head_width=8),
        text_cfg=dict(context_length=8, vocab_size=49408, width=16, heads=1, layers=1),
    )
    config = dict(type='OpenCLIPBackbone', arch=arch, image_size=(32, 32), pretrained=file)
    BACKBONES.build(config).init_weights()


ENTRIES = {
    'convert': lambda c, f: run_tool('convert_checkpoint', c, f, 'out.pth'),
    'convert back': lambda c, f: run_tool('convert_checkpoint', c, f, 'out.pth', '--to-official'),
    'export': lambda c, f: run_tool('export_towers', c, f, 'out.pt'),
    'publish': lambda c, f: run_tool('publish_model', c, f, 'out.safetensors'),
    'evaluate': lambda c, f: run_tool('test', c, f),
    'resume': lambda c, f: run_tool('train', c, '--resume', f),
    'resume automatically': lambda c, f: run_tool('train', c, '--work-dir', '.', '--resume'),
    'start from': lambda c, f: CheckpointLoader.load_checkpoint(f),
    'pretrained': lambda c, f: build_pretrained(f),
    'pretrained by open_clip': lambda c, f: build_pretrained_open_clip(f),
    'search by checkpoint': lambda c, f: load_towers(c, f),
}


# The second kind of file is what torch wrote before 1.6.
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('entry', list(ENTRIES))
def test_no_entrance_executes_a_pickled_object(tmp_path, monkeypatch, entry, zipped):
    config = write_toy_config(tmp_path / 'config.py', tmp_path)
    monkeypatch.chdir(tmp_path)
    file = 'epoch_1.pth'
    content = dict(state_dict={}, model={}, meta={}, optimizer=Harm())
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'epoch_1.pth') as caught:
        ENTRIES[entry](config, file)
    if entry == 'resume automatically':
        assert 'none of the checkpoints' in str(caught.value)
    else:
        assert 'other Python types): Unsupported global: GLOBAL exec was not' in str(caught.value)
        assert 'weights_only' not in str(caught.value)
    assert not Path('harmed').exists()
    # The file is harmful indeed.
    torch.load(file, weights_only=False)
    assert Path('harmed').exists()


def test_a_pickle_that_calls_itself_safetensors_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=Harm()), 'bad.safetensors')
    with pytest.raises(ValueError, match='bad.safetensors is no readable model file'):
        load_towers('bad.safetensors')
    with pytest.raises(ValueError, match='bad.safetensors is no readable checkpoint'):
        build_pretrained('bad.safetensors')
    assert not Path('harmed').exists()


class HarmfulScript(torch.nn.Module):
    """Writes a file when its archive is loaded."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.weight, self.training = state
        torch.save(self.weight, 'harmed')


@pytest.mark.filterwarnings('ignore::FutureWarning')
def test_a_torchscript_archive_is_read_only_if_openai_published_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(HarmfulScript()), 'bad.pt')
    with pytest.raises(ValueError, match='bad.pt is a TorchScript archive, which runs code'):
        build_pretrained('bad.pt')
    assert not Path('harmed').exists()
    known = {hashlib.sha256(Path('bad.pt').read_bytes()).hexdigest()}
    monkeypatch.setattr(weights, '_openai_hashes', lambda: known)
    with pytest.raises(ValueError, match='bad.pt holds no CLIP towers'):
        build_pretrained('bad.pt')
    assert Path('harmed').exists()


def test_the_hashes_of_openai_are_those_in_its_addresses():
    # ViT-B-16 of the model list in clip/clip.py of openai/CLIP.
    known = '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f'
    assert known in weights._openai_hashes()
    assert {len(value) for value in weights._openai_hashes()} == {64}


@pytest.mark.parametrize(
    'address', ['https://host/x.pth', 's3://bucket/x.pth', 'a:s3://b/x.pth', 'torchvision://resnet']
)
def test_checkpoints_from_the_network_are_refused(address):
    with pytest.raises(ValueError, match='download the file and give its path'):
        CheckpointLoader.load_checkpoint(address)
