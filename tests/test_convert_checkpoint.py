"""Official checkpoints become ours and go back bit by bit; none of them runs code."""

import argparse
import hashlib
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny_rde
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from tiny import clip_config, golden_state, irra_config, layout, sen_config, shipped_model
from toy_data import ROOT, run_tool, write_toy_config

from sen_toolbox.checkpoint.layouts import official_layout
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.models import openai_weights, weights
from sen_toolbox.registry import BACKBONES, IMAGE_ENCODERS, MODELS

GOLDEN = {
    'sen': (sen_config, lambda: golden_state('sen_tiny')),
    'irra': (irra_config, lambda: golden_state('irra_tiny')),
    'rde': (tiny_rde.rde_config, tiny_rde.official_state),
}


def write_config(folder: Path, method: str, model: dict) -> Path:
    """A config elsewhere, which says where its method's layout is."""
    path, official = folder / 'config.py', str(ROOT / 'configs' / method / 'official.py')
    path.write_text(f'model = {model!r}\nofficial = {official!r}\n')
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
    config, released = write_config(tmp_path, method, model()), as_released(state())
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
    # Of these the first is a constant, and ours has it too.
    unused = getattr(layout(method), 'UNUSED', ())[1:]
    for key, value in released['model'].items():
        name = key.removeprefix('module.')
        if not name.startswith(unused):
            assert torch.equal(back[name], value.float()), name
            # Half precision is widened, so nothing is lost on the way back to it.
            assert torch.equal(back[name].to(value.dtype), value), name


@pytest.fixture
def tbps_model():
    return shipped_model('configs/tbps_clip/tbps_clip_vitb_cuhk.py', image_size=(64, 32))


def test_tbps_clip_is_converted_without_easydict(tmp_path, monkeypatch, tbps_model):
    config = write_config(tmp_path, 'tbps_clip', tbps_model)
    expected = MODELS.build(tbps_model).state_dict()
    official = {}
    for key, value in expected.items():
        key = key.replace('heads.self_supervision.projection.', 'simclr_mlp.')
        key = key.replace('heads.contrast.', '').replace('backbone.image.', 'visual.')
        official[key.replace('backbone.text.', 'encode_text.')] = value

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

    with pytest.raises(ValueError, match=r'tbps_clip/official.py has no to_official: there'):
        run_tool(
            'convert_checkpoint', config, tmp_path / 'ours.pth', tmp_path / 'x', '--to-official'
        )


def test_another_image_size_is_refused_with_both_shapes(tmp_path):
    config = write_config(tmp_path, 'irra', irra_config(image_size=(256, 128)))
    torch.save(as_released(golden_state('irra_tiny')), tmp_path / 'best.pth')
    with pytest.raises(
        ValueError,
        match=r'image.positional_embedding has shape \(193, 128\), expected \(129, 128\)',
    ):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')
    assert not (tmp_path / 'ours.pth').exists()


def test_the_checkpoint_of_another_method_is_refused_by_its_keys(tmp_path):
    config = write_config(tmp_path, 'sen', sen_config())
    torch.save(as_released(golden_state('irra_tiny')), tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=r'have no place in the layout.*cross_attn\.'):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')


def test_missing_weights_are_named(tmp_path):
    config = write_config(tmp_path, 'sen', sen_config())
    released = as_released(golden_state())
    del released['model']['module.decoder_pred.bias']
    torch.save(released, tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=r'missing heads.restoration.neck.predict.bias'):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')
    torch.save(dict(epoch=1, args=argparse.Namespace()), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match=r"no weights under 'model', only \['epoch', 'args'\]"):
        run_tool('convert_checkpoint', config, tmp_path / 'empty.pth', tmp_path / 'ours.pth')


@pytest.mark.parametrize('side', ['visul', 'texual'])
def test_a_missing_bias_that_goes_into_a_mean_is_named(tmp_path, side):
    config = write_config(tmp_path, 'rde', tiny_rde.rde_config())
    released = as_released(tiny_rde.official_state())
    del released['model'][f'module.{side}_emb_layer.mlp.layers.0.bias']
    torch.save(released, tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=f'lacks {side}_emb_layer.mlp.layers.0.bias'):
        run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / 'ours.pth')


def test_a_layout_lies_beside_the_config_or_above_it(tmp_path):
    (tmp_path / 'configs').mkdir()
    path = tmp_path / 'configs' / 'mine.py'
    path.write_text('model = dict()\n')
    with pytest.raises(
        FileNotFoundError,
        match=rf'mine.py: nothing .*{tmp_path}/configs/official.py and {tmp_path}/official.py',
    ):
        official_layout(load_config(path))
    for folder in (tmp_path, tmp_path / 'configs'):
        (folder / 'official.py').write_text(f'FOLDER = {folder.name!r}\n')
        assert official_layout(load_config(path)).FOLDER == folder.name
    path.write_text("model = dict()\nofficial = '../official.py'\n")
    assert official_layout(load_config(path)).FOLDER == tmp_path.name
    path.write_text("model = dict()\nofficial = 'nowhere.py'\n")
    with pytest.raises(FileNotFoundError, match='looked for .*nowhere.py'):
        official_layout(load_config(path))
    path.write_text("model = dict()\nofficial = '../official'\n")
    (tmp_path / 'official').write_text('')
    with pytest.raises(ValueError, match=r'/official is not Python code: its name must end with'):
        official_layout(load_config(path))


def person_pretrained(folder: Path, config: dict, **others) -> tuple[str, dict]:
    """A file as NAM's, HAM's or GA-DMS's: IRRA's layout, with heads; and its towers."""
    towers = {k: v.half().float() for k, v in BACKBONES.build(config).state_dict().items()}
    names = {key: key.replace('image.', 'visual.').removeprefix('text.') for key in towers}
    state = {f'base_model.{names[key]}': value for key, value in towers.items()}
    state |= {'classifier.weight': torch.zeros(3, 64), 'mlm_head.fc.bias': torch.zeros(5)}
    torch.save(as_released(state | others), folder / 'person.pth')
    return str(folder / 'person.pth'), towers


def clip_from(file: str, **kwargs) -> torch.nn.Module:
    """CLIP's towers that start from a file."""
    start = dict(pretrained=file)
    return BACKBONES.build(clip_config(**kwargs, image=start, text=start))


# 16 patches in a grid of 8 x 2 are not taken for CLIP's 4 x 4.
@pytest.mark.parametrize('image_size', [(96, 32), (128, 32)])
def test_person_pretrained_towers_start_a_model_and_their_heads_are_reported(
    tmp_path, monkeypatch, image_size
):
    said = []
    monkeypatch.setattr(weights, 'print_log', lambda text, **_: said.append(text))
    file, towers = person_pretrained(tmp_path, clip_config(image_size=image_size))
    backbone = clip_from(file, image_size=image_size)
    backbone.load_weights()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, towers[key]), key
    reports = [text for text in said if 'does not use' in text]
    assert reports == [f'{file}: takes base_model.*, does not use classifier, mlm_head'] * 2


def test_person_pretrained_towers_that_do_not_fit_are_refused_by_name(tmp_path):
    extra = {'base_model.visual.adapter.weight': torch.zeros(2)}
    file, _ = person_pretrained(tmp_path, clip_config(image_size=(96, 32)), **extra)
    with pytest.raises(ValueError, match='unexpected adapter.weight'):
        clip_from(file, image_size=(96, 32)).load_weights()
    with pytest.raises(ValueError, match='has 12 patches, the model has 8 x 2'):
        clip_from(file, image_size=(128, 32)).load_weights()


class Harm:
    def __reduce__(self):
        return (exec, ("open('harmed', 'w').close()",))


def load_pretrained(file: str) -> None:
    clip_from(file, image_size=(64, 32)).load_weights()


def load_pretrained_image_encoder(kind: str, file: str, **settings) -> None:
    config = dict(type=kind, image_size=(32, 32), pretrained=file, **settings)
    IMAGE_ENCODERS.build(config).load_weights()


def load_pretrained_timm_tower(file: str) -> None:
    tower = dict(timm_model_name='test_vit', timm_pool='token', timm_proj=None, image_size=160)
    arch = dict(embed_dim=16, vision_cfg=tower)
    load_pretrained_image_encoder('OpenCLIPImageEncoder', file, arch=arch)


ENTRIES = {
    'convert': lambda c, f: run_tool('convert_checkpoint', c, f, 'out.pth'),
    'convert back': lambda c, f: run_tool('convert_checkpoint', c, f, 'out.pth', '--to-official'),
    'export': lambda c, f: run_tool('export_towers', c, f, 'out.pt'),
    'publish': lambda c, f: run_tool('publish_model', c, f, 'out.safetensors'),
    'evaluate': lambda c, f: run_tool('test', c, f),
    'resume': lambda c, f: run_tool('train', c, '--resume', f),
    'resume automatically': lambda c, f: run_tool('train', c, '--work-dir', '.', '--resume'),
    'start from': lambda c, f: CheckpointLoader.load_checkpoint(f),
    'pretrained': lambda c, f: load_pretrained(f),
    'pretrained by open_clip': lambda c, f: load_pretrained_timm_tower(f),
    'pretrained by torchvision': lambda c, f: load_pretrained_image_encoder('ResNet', f, depth=10),
    'search by checkpoint': lambda c, f: load_encoder(c, f),
}


# The second kind of file is what torch wrote before 1.6.
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('entry', list(ENTRIES))
def test_no_entrance_executes_a_pickled_object(tmp_path, monkeypatch, entry, zipped):
    config = write_toy_config(tmp_path / 'config.py', tmp_path)
    official = str(ROOT / 'configs' / 'sen' / 'official.py')
    config.write_text(f'{config.read_text()}official = {official!r}\n')
    monkeypatch.chdir(tmp_path)
    file = 'epoch_1.pth'
    content = dict(state_dict={}, model={}, meta={}, optimizer=Harm())
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'epoch_1.pth') as caught:
        ENTRIES[entry](config, file)
    if entry == 'resume automatically':
        assert 'none of the checkpoints' in str(caught.value)
    else:
        # The name of the module stands before it in torch 2.6.
        refused = r'other Python types\): Unsupported global: GLOBAL (builtins\.)?exec was not'
        assert re.search(refused, str(caught.value))
        assert 'weights_only' not in str(caught.value)
    assert not Path('harmed').exists()
    # The file is harmful indeed.
    torch.load(file, weights_only=False)
    assert Path('harmed').exists()


def test_a_pickle_that_calls_itself_safetensors_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=Harm()), 'bad.safetensors')
    with pytest.raises(ValueError, match='bad.safetensors is not a readable model file'):
        load_encoder('bad.safetensors')
    with pytest.raises(ValueError, match='bad.safetensors is not a readable checkpoint'):
        load_pretrained('bad.safetensors')
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
        load_pretrained('bad.pt')
    assert not Path('harmed').exists()
    known = {hashlib.sha256(Path('bad.pt').read_bytes()).hexdigest()}
    monkeypatch.setattr(openai_weights, 'openai_hashes', lambda: known)
    with pytest.raises(ValueError, match='bad.pt holds no image tower of CLIP'):
        load_pretrained('bad.pt')
    assert Path('harmed').exists()


def test_the_hashes_of_openai_are_those_in_its_addresses():
    # ViT-B-16 of the model list in clip/clip.py of openai/CLIP.
    known = '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f'
    assert known in openai_weights.openai_hashes()
    assert {len(value) for value in openai_weights.openai_hashes()} == {64}


@pytest.mark.parametrize(
    'address', ['https://host/x.pth', 's3://bucket/x.pth', 'a:s3://b/x.pth', 'torchvision://resnet']
)
def test_checkpoints_from_the_network_are_refused(address):
    with pytest.raises(ValueError, match='download the file and give its path'):
        CheckpointLoader.load_checkpoint(address)


def test_the_checkpoint_that_is_read_is_not_written_over(tmp_path):
    config = write_config(tmp_path, 'clip', dict())
    torch.save(dict(model={}), tmp_path / 'best.pth')
    (tmp_path / 'link.pth').symlink_to('best.pth')
    before = (tmp_path / 'best.pth').read_bytes()
    for name in ('best.pth', 'link.pth'):
        with pytest.raises(ValueError, match=f'{name} is the checkpoint that is read'):
            run_tool('convert_checkpoint', config, tmp_path / 'best.pth', tmp_path / name)
    assert (tmp_path / 'best.pth').read_bytes() == before
