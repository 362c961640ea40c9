"""What a user gets wrong: each error says what, where and how to repair it, in its last line."""

import json
import logging
import shutil
from types import SimpleNamespace

import pytest
import torch
from commands import Command
from toy_data import (
    NUM_CLASSES,
    ROOT,
    run_tool,
    toy_records,
    write_toy_config,
    write_toy_data,
)

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.hooks import DatasetReportHook
from sen_toolbox.registry import DATASETS, MODELS
from sen_toolbox.text.tokenizers import CLIPTokenizer

EMOJI = 'A woman 👩‍🦰 in a red 🔴 coat — très chic'


@pytest.fixture(scope='module')
def pristine(tmp_path_factory):
    return write_toy_data(tmp_path_factory.mktemp('pristine') / 'data')


@pytest.fixture
def data(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / 'data')


@pytest.fixture
def toy(data, tmp_path):
    return write_toy_config(tmp_path / f'toy_{tmp_path.name}.py', data)


def train(toy, *options):
    work_dir = toy.parent / 'work'
    run_tool('train', toy, '--work-dir', work_dir, '--cfg-options', 'max_epochs=1', *options)
    return work_dir


def last_line(toy, *options):
    """The last line that a user sees of a training that fails."""
    train = ROOT / 'tools/train.py'
    status, output = Command(
        toy.parent, train, toy, '--work-dir', toy.parent / 'work', *options
    ).end()
    assert status == 1, output[-3000:]
    # An error from a data worker ends with an empty line.
    return output.rstrip().splitlines()[-1]


def save_model(config, file):
    content = dict(
        state_dict=MODELS.build(config.model).state_dict(),
        meta=dict(epoch=1, iter=1),
        optimizer={},
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    )
    torch.save(content, file)


def test_a_missing_data_folder_is_named_with_the_layout_it_should_have(toy):
    with pytest.raises(
        FileNotFoundError,
        match=r'there is no folder data/absent: .* should hold reid_raw.json and the folder imgs',
    ):
        train(toy, 'data_root=data/absent')


def test_a_missing_annotation_file_is_named(toy, data):
    (data / 'reid_raw.json').rename(data / 'reid_row.json')
    with pytest.raises(
        FileNotFoundError, match=r'no annotation file in .*data: .* should hold reid_raw.json'
    ):
        train(toy)


@pytest.mark.slow
def test_a_missing_image_is_named_before_training(toy, data):
    (data / 'imgs/train/0003_1.jpg').unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 23 images of split 'train' are missing.*train/0003_1.jpg"
    ):
        train(toy)


@pytest.mark.slow
def test_a_missing_image_of_the_validation_split_is_named_before_training(toy, data):
    (data / 'imgs/val/1000_0.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r"images of split 'val' .*val/1000_0.jpg"):
        train(toy)
    assert not list(toy.parent.glob('work/*.pth'))


def test_a_truncated_annotation_file_is_named_with_the_place(toy, data):
    file = data / 'reid_raw.json'
    file.write_text(file.read_text()[:-100])
    with pytest.raises(ValueError, match=r'reid_raw.json is not valid JSON at line 1, column \d+'):
        train(toy)


def test_annotations_that_are_no_list_are_refused(toy, data):
    (data / 'reid_raw.json').write_text('{"records": []}')
    with pytest.raises(ValueError, match=r'reid_raw.json holds a dict, expected a list of records'):
        train(toy)


@pytest.mark.slow
def test_a_corrupt_image_ends_training_by_name_and_keeps_the_checkpoints(toy, data):
    work_dir = train(toy)
    before = (work_dir / 'epoch_1.pth').read_bytes()
    for image in (data / 'imgs/train').iterdir():
        image.write_bytes(image.read_bytes()[:700])
    # In a worker, as usual; the error must survive its way to the main process.
    line = last_line(toy, '--resume', '--cfg-options', 'num_workers=1')
    assert line.startswith(f'train.py: cannot decode image {data}/imgs/train/')
    assert line.endswith('copy the file again or remove its record')
    assert (work_dir / 'epoch_1.pth').read_bytes() == before
    assert not (work_dir / 'epoch_2.pth').exists()
    load_checkpoint_file(str(work_dir / 'epoch_1.pth'))


@pytest.fixture
def odd(tmp_path):
    """Valid data with what is rare in the published sets."""
    records = toy_records()
    records[0]['captions'] = ['red ' * 500, EMOJI]
    records[1]['captions'] = ['', 'A person in red.']
    records[2]['captions'] = ['  ', '']
    alone = records.pop(4)  # leaves this person one image
    assert [record['id'] for record in records].count(alone['id']) == 1
    return write_toy_data(tmp_path / 'odd', records=records)


@pytest.mark.slow
def test_odd_but_valid_data_train_and_evaluate(odd, tmp_path, capfd):
    toy = write_toy_config(tmp_path / 'odd_data.py', odd)
    work_dir = train(toy)
    output = ''.join(capfd.readouterr())
    assert 'reid_raw.json: 1 images have empty captions, which are left out: ' in output
    assert 'reid_raw.json: 1 images have no caption and are left out: ' in output
    rows = [json.loads(row) for row in next(work_dir.glob('*/vis_data/scalars.json')).open()]
    assert 0 < rows[0]['loss'] < 1000
    assert rows[-1]['t2i/R10'] == 100


def read(toy, **changes):
    dataset = load_config(toy).train_dataloader.dataset
    return DATASETS.build({**dataset, **changes})


def test_empty_captions_are_left_out_and_the_others_stay(odd, tmp_path):
    dataset = read(write_toy_config(tmp_path / 'odd_data.py', odd), test_mode=True)
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    by_file = {record['img_path'].rsplit('/', 1)[1]: record['captions'] for record in records}
    assert by_file['0000_1.jpg'] == ['A person in red.']
    assert '0003_0.jpg' not in by_file
    assert len(by_file['0003_1.jpg']) == 2


def test_a_long_caption_is_cut_and_ends_with_the_end_token(odd, tmp_path):
    dataset = read(write_toy_config(tmp_path / 'odd_data.py', odd), test_mode=True)
    ids, end = dataset[0]['tokens'].ids, CLIPTokenizer.special.end
    assert ids.shape == (2, 24)
    assert ids[0, -1] == end
    assert (ids == end).sum(dim=1).tolist() == [1, 1]


@pytest.mark.slow
def test_a_batch_larger_than_the_data_allow_says_how_large_it_may_be(toy):
    with pytest.raises(
        ValueError, match=r'12 identities are too few .* use a batch_size of at most 24'
    ):
        train(toy, 'batch_size=64')


@pytest.mark.slow
def test_a_misspelt_key_is_the_last_line_that_a_user_sees(toy):
    line = last_line(toy, '--cfg-options', 'max_epoch=1')
    assert line.startswith("train.py: override 'max_epoch'")
    assert "unknown key 'max_epoch'; did you mean max_epochs" in line


@pytest.mark.slow
def test_a_wrong_number_of_classes_is_refused_with_the_right_one(toy):
    with pytest.raises(
        ValueError,
        match=rf'the training split has {NUM_CLASSES} identities, but heads.identity classifies '
        rf'5: set num_classes={NUM_CLASSES} \(--cfg-options num_classes={NUM_CLASSES}\)',
    ):
        train(toy, 'num_classes=5')


def test_a_wrong_number_of_classes_is_refused_where_no_head_has_it_too(toy):
    with pytest.raises(
        ValueError, match=rf'has {NUM_CLASSES} identities, but the config says 5: set num_classes='
    ):
        train(toy, 'num_classes=5', f'model.heads.identity.num_classes={NUM_CLASSES}')


def test_classes_that_an_encoder_brings_along_are_not_compared(monkeypatch):
    monkeypatch.setattr('sen_toolbox.hooks.dataset_report.dataset_table', lambda datasets: '')
    model = torch.nn.Module()
    model.backbone, model.heads = torch.nn.Linear(1, 1), torch.nn.ModuleDict()
    model.backbone.num_classes = 1000  # as timm's models have it
    pipeline = SimpleNamespace(transforms=[])
    dataset = SimpleNamespace(metainfo=dict(num_classes=7), pipeline=pipeline)
    loader = SimpleNamespace(dataset=dataset)
    runner = SimpleNamespace(
        train_dataloader=loader, val_loop=None, model=model, logger=logging.getLogger()
    )
    DatasetReportHook(num_classes=7).before_train(runner)
    model.heads['classifier'] = model.backbone
    with pytest.raises(ValueError, match='heads.classifier classifies 1000'):
        DatasetReportHook(num_classes=7).before_train(runner)


@pytest.mark.slow
@pytest.mark.parametrize('way', ['test', 'resume', 'load_from'])
def test_a_checkpoint_of_another_architecture_is_refused_with_its_keys(toy, way):
    overrides = {'clip_arch.vision_cfg.layers': 2}
    file = toy.parent / 'deeper.pth'
    save_model(load_config(toy, overrides), file)
    with pytest.raises(
        ValueError, match=r'deeper.pth does not fit the model: unexpected backbone.*resblocks\.1\.'
    ):
        if way == 'test':
            run_tool('test', toy, file, '--work-dir', toy.parent / 'tested')
        elif way == 'resume':
            run_tool('train', toy, '--work-dir', toy.parent / 'work', '--resume', file)
        else:
            train(toy, f'load_from={file}')


@pytest.mark.slow
def test_a_test_leaves_the_config_of_the_training_and_names_forgotten_overrides(toy):
    work_dir, deeper = toy.parent / 'trained', 'clip_arch.vision_cfg.layers=2'
    file = work_dir / 'epoch_1.pth'
    options = ('--work-dir', work_dir, '--cfg-options')
    run_tool('train', toy, *options, 'max_epochs=1', deeper)
    written = (work_dir / toy.name).read_text()
    with pytest.raises(
        ValueError,
        match=r'epoch_1.pth does not fit the model: unexpected .*; settings that differ from its '
        r'own config: .*layers=1 where the checkpoint has 2',
    ):
        run_tool('test', toy, file, '--work-dir', work_dir)
    assert (work_dir / toy.name).read_text() == written
    # MMEngine names the folder of a log by the second, so quick runs may share one.
    for earlier in work_dir.glob('20*_*'):
        shutil.rmtree(earlier)
    run_tool('test', toy, file, *options, deeper)
    assert (work_dir / toy.name).read_text() == written
    assert (work_dir / 'results.json').exists()
    (tested,) = work_dir.glob('*/vis_data/config.py')
    assert 'layers=2' in tested.read_text()


def test_a_checkpoint_that_is_none_is_refused_by_name(toy):
    (toy.parent / 'none.pth').write_text('<html>not found</html>')
    with pytest.raises(ValueError, match='none.pth is not a readable checkpoint'):
        run_tool('test', toy, toy.parent / 'none.pth', '--work-dir', toy.parent / 'tested')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint absent.pth'):
        run_tool('test', toy, 'absent.pth', '--work-dir', toy.parent / 'tested')


@pytest.mark.slow
def test_a_missing_weight_file_is_named_before_training(toy):
    with pytest.raises(
        FileNotFoundError, match=r'no CLIP weights at towers.pt; put the file there'
    ):
        train(toy, 'pretrained=towers.pt')


@pytest.mark.slow
def test_without_network_the_weights_to_download_are_named_with_their_place(
    toy, data, tmp_path, monkeypatch
):
    def no_network(config):
        raise OSError('no network')

    monkeypatch.setattr('open_clip.pretrained.download_pretrained', no_network)
    monkeypatch.setenv('HOME', str(tmp_path))
    options = (
        *(f'data_root={data}', f'num_classes={NUM_CLASSES}', 'batch_size=8', 'num_workers=0'),
        'train_dataloader.dataset.tagger.type=RuleTagger',
    )
    with pytest.raises(
        FileNotFoundError,
        match=rf'Put ViT-B-16.pt \(from https://.*\) at {tmp_path}/.cache/clip/ViT-B-16.pt',
    ):
        run_tool(
            *('train', ROOT / 'configs/sen/sen_vitb_cuhk.py', '--work-dir', tmp_path / 'work'),
            *('--cfg-options', *options),
        )


def test_missing_data_of_nltk_are_named_with_the_command_that_gets_them(toy, monkeypatch):
    monkeypatch.setattr('nltk.data.path', [])
    with pytest.raises(
        FileNotFoundError,
        match='python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng',
    ):
        train(toy, 'train_dataloader.dataset.tagger.type=NLTKTagger')
