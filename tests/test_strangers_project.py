"""docs/adding.md's project, written into an empty folder as it stands there, and used.

Every command is a process of its own that runs in that folder; the toolbox is only imported.
"""

import ast
import hashlib
import json
import re
import signal

import pytest
import torch
from commands import Command, ranks, run
from PIL import Image
from toy_data import NUM_CLASSES, ROOT, toy_records, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file

pytestmark = pytest.mark.slow

PAGE = (ROOT / 'docs/adding.md').read_text(encoding='utf-8')
# `path`: and the code block below it.
FILES = dict(
    re.findall(r'^`(projects/\S+)`:\n```python\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
)
CONFIG, MODEL = 'projects/mine/configs/small.py', 'mine.safetensors'
SMALL = f"""
_base_ = './mine.py'
image_size = (64, 32)
context_length = 80
num_classes = {NUM_CLASSES}
batch_size = 8
num_workers = 0
max_epochs = 2
param_scheduler = [dict(type='CosineAnnealingLR', end='$max_epochs', convert_to_iter_based=True)]
randomness = dict(deterministic=True)
"""
# Ends a run as a power cut does, in the second of two epochs of six steps.
DEADLY = """
import os
import signal

from mmengine.hooks import Hook

from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class PowerCutHook(Hook):
    def after_train_iter(self, runner, *_, **__):
        if runner.iter == 8:
            os.kill(os.getpid(), signal.SIGKILL)
"""
DOOMED = """
_base_ = './small.py'
custom_imports = dict(imports=[*_base_.custom_imports.imports, 'projects.mine.power_cut'])
custom_hooks = [*_base_.custom_hooks, dict(type='PowerCutHook')]
"""
SENTENCES = ('a person with a red shirt, from behind', 'someone wears blue trousers')
OVERRIDDEN = f"""
from sen_toolbox.config import load_config

overrides = {{'margin': 0.7, 'model.heads.regions.temperature': 0.5}}
heads = load_config({CONFIG!r}, overrides).model.heads
assert heads.whole.loss.margin == heads.parts.loss.margin == 0.7
assert heads.regions.temperature == 0.5
"""
SAME_AS_EVALUATED = f"""
import sys

import torch
from mmengine.runner import Runner

from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder

sys.path.insert(0, '')
config = load_config({CONFIG!r})
config.work_dir, config.load_from = 'checked', sys.argv[1]
runner = Runner.from_cfg(config)
runner.load_or_resume()
encoder = Encoder.from_config(config, sys.argv[1], device='cpu')
records = runner.test_dataloader.dataset
runner.model.eval()
seen = 0
with torch.no_grad():
    for batch in runner.test_dataloader:
        for found in runner.model.val_step(batch):
            record = records.get_data_info(seen)
            image = torch.from_numpy(encoder.embed_files([record['img_path']])[0])
            texts = torch.from_numpy(encoder.embed_text(record['captions']))
            # Batches of other sizes round otherwise.
            torch.testing.assert_close(image, found['image_embedding'], rtol=0, atol=1e-5)
            torch.testing.assert_close(texts, found['text_embeddings'], rtol=0, atol=1e-5)
            seen += 1
print(seen, 'records are embedded alike, in', len(image), 'numbers')
"""


def tool(name):
    return ROOT / 'tools' / f'{name}.py'


def search(folder, *arguments):
    return run(folder, 'sen_toolbox.search.cli', *arguments)


def digest(folder):
    content = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        if path.suffix in ('.py', '.json', '.npz', '.safetensors'):
            content.update(f'{path}\0'.encode() + path.read_bytes())
    return content.hexdigest()


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder with projects/mine as the page shows it, in small sizes, and data in its layout."""
    before = digest(ROOT / 'sen_toolbox')
    folder = tmp_path_factory.mktemp('stranger')
    # The page names bases as seen from a folder of the toolbox; from elsewhere they are absolute.
    files = {path: text.replace("'../../..", f"'{ROOT}") for path, text in FILES.items()}
    files[CONFIG] = SMALL
    files['projects/mine/configs/doomed.py'] = DOOMED
    files['projects/mine/power_cut.py'] = DEADLY
    files['same_as_evaluated.py'] = SAME_AS_EVALUATED
    files['overridden.py'] = OVERRIDDEN
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding='utf-8')
    data = write_toy_data(folder / 'data/street')
    (data / 'imgs').rename(data / 'crops')
    people = [
        dict(photo=row['file_path'], who=row['id'], part=row['split'], says=row['captions'])
        for row in toy_records()
    ]
    (data / 'people.json').write_text(json.dumps(people))
    yield folder
    assert digest(ROOT / 'sen_toolbox') == before


@pytest.fixture(scope='module')
def checkpoint(project):
    """The last checkpoint of an undisturbed training."""
    run(project, tool('train'), CONFIG, '--work-dir', 'whole')
    return project / 'whole/epoch_2.pth'


@pytest.fixture(scope='module')
def model_file(project, checkpoint):
    run(project, tool('publish_model'), CONFIG, checkpoint, MODEL)
    return project / MODEL


@pytest.fixture(scope='module')
def index(project, model_file):
    crops = project / 'data/street/crops/test'
    arguments = ('--index', 'gallery', '--model', MODEL, '--import', 'projects.mine')
    assert '7 added' in search(project, 'index', crops, *arguments)
    return project / 'gallery'


def logged(work_dir):
    """The numbers that a training logged, by their names, in the order of its lines."""
    [log] = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_page_shows_a_project_that_changes_nothing_that_it_imports():
    assert len(FILES) == 15
    for path, text in FILES.items():
        tree = ast.parse(text)
        imported = {
            alias.asname or alias.name.split('.')[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                owner = node.value
                while isinstance(owner, ast.Attribute | ast.Subscript | ast.Call):
                    owner = owner.func if isinstance(owner, ast.Call) else owner.value
                assert getattr(owner, 'id', None) not in imported, f'{path}:{node.lineno}'


def test_every_part_is_trained(project, checkpoint):
    first, *_, last = logged(project / 'whole')
    heads = ('whole', 'parts', 'teacher', 'regions', 'foreground')
    assert {f'{name}.loss' for name in heads} < set(first)
    assert {'t2i/R1', 'scored/t2i/R1'} < set(last)
    state = load_checkpoint_file(str(checkpoint))['state_dict']
    # The slow copy has followed, and is behind.
    for part in ('image.late.weight', 'text.mix.weight'):
        assert not torch.equal(state[f'heads.teacher.slow.{part}'], state[f'backbone.{part}'])
    assert {key.split('.')[1] for key in state if key.startswith('heads.')} == {
        'parts', 'teacher', 'foreground',
    }  # fmt: skip


def test_a_killed_training_goes_on_to_the_same_bits(project, checkpoint):
    doomed = Command(
        project, tool('train'), 'projects/mine/configs/doomed.py', '--work-dir', 'killed'
    )
    assert doomed.end()[0] == -signal.SIGKILL
    assert [path.name for path in (project / 'killed').glob('epoch_*')] == ['epoch_1.pth']
    run(project, tool('train'), CONFIG, '--work-dir', 'killed', '--resume')
    undisturbed, resumed = (
        load_checkpoint_file(str(path))['state_dict']
        for path in (checkpoint, project / 'killed/epoch_2.pth')
    )
    assert undisturbed.keys() == resumed.keys()
    assert [key for key in undisturbed if not torch.equal(undisturbed[key], resumed[key])] == []


def test_a_batch_in_chunks_gives_the_losses_of_one_in_one_piece(project, checkpoint):
    chunks = ('--cfg-options', 'model.chunks=3')
    run(project, tool('train'), CONFIG, '--work-dir', 'chunks', *chunks)
    whole, chunked = (logged(project / name)[-2] for name in ('whole', 'chunks'))
    losses = {name: value for name, value in whole.items() if name.endswith('loss')}
    assert len(losses) == 6
    # Adam makes what rounds otherwise a little larger, step by step.
    assert {name: chunked[name] for name in losses} == pytest.approx(losses, rel=1e-3)


def test_two_processes_evaluate_to_the_figures_of_one(project, checkpoint):
    # The same data by the type of the set and a folder.
    given = ('--work-dir', 'one', '--datasets', 'StreetPeople=data/street')
    run(project, tool('test'), CONFIG, checkpoint, *given)
    given = ('--work-dir', 'two', '--launcher', 'pytorch')
    ranks(project, tool('test'), CONFIG, checkpoint, *given, count=2)
    [one], [two] = (
        json.loads((project / name / 'results.json').read_text())['evaluations']
        for name in ('one', 'two')
    )
    assert (one.pop('dataset'), two.pop('dataset')) == ('StreetPeople=data/street', 'StreetPeople')
    assert one == two
    assert (one['num_identities'], one['num_images']) == (4, 7)


def test_pictures_and_sentences_are_embedded_as_in_evaluation(project, checkpoint):
    output = run(project, project / 'same_as_evaluated.py', checkpoint)
    # The backbone's 32 numbers and the 24 of the head of parts.
    assert '7 records are embedded alike, in 56 numbers' in output


def found_by(folder, model, *arguments):
    """Paths and scores by sentence, best first."""
    results = {}
    for sentence in SENTENCES:
        options = ('--json', '--index', 'gallery', '--model', model, *arguments)
        text = search(folder, 'query', sentence, *options)
        rows = json.loads(text[text.index('[') :])
        results[sentence] = [(row['path'], row['score']) for row in rows]
    return results


def test_it_is_searched_by_its_model_file_and_by_its_config(project, checkpoint, index):
    by_file = found_by(project, MODEL, '--import', 'projects.mine')
    by_config = found_by(project, CONFIG, '--checkpoint', checkpoint)
    assert by_file == by_config
    assert {len(rows) for rows in by_file.values()} == {7}


def test_without_its_parts_a_model_file_is_refused_by_their_name(project, index):
    command = ('query', SENTENCES[0], '--index', 'gallery', '--model', MODEL)
    status, output = Command(project, 'sen_toolbox.search.cli', *command).end()
    assert status == 1
    assert re.search(r"unknown part '\w+'; .* sen-search --import MODULE", output)
    command = (*command, '--import', 'projects.yours')
    status, output = Command(project, 'sen_toolbox.search.cli', *command).end()
    assert status == 1
    assert output.strip() == "sen-search: No module named 'projects.yours'"


def test_it_is_exported_and_searched_so(project, index):
    pytest.importorskip('onnxscript')
    imported = ('--import', 'projects.mine')
    search(project, 'export', 'mine.onnx', '--model', MODEL, *imported)
    expected, exported = (found_by(project, name, *imported) for name in (MODEL, 'mine.onnx'))
    for sentence in SENTENCES:
        scores = [dict(found[sentence]) for found in (expected, exported)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_its_checkpoints_are_converted_there_and_back(project, checkpoint):
    convert = tool('convert_checkpoint')
    run(project, convert, CONFIG, checkpoint, 'theirs.pth', '--to-official')
    run(project, convert, CONFIG, 'theirs.pth', 'ours.pth')
    theirs, ours, before = (
        load_checkpoint_file(str(project / path)) for path in ('theirs.pth', 'ours.pth', checkpoint)
    )
    assert {'cnn.early.weight', 'stripes.of_text.bias'} < set(theirs['model'])
    assert ours['state_dict'].keys() == before['state_dict'].keys()
    for key, value in ours['state_dict'].items():
        assert torch.equal(value, before['state_dict'][key]), key


def test_its_boards_and_samples_are_shown(project, checkpoint):
    boards = ('--boards', 'retrieval', 'illustration', 'words')
    run(project, tool('show_results'), CONFIG, checkpoint, '--restored', 1, *boards)
    with Image.open(project / 'results.png') as picture:
        assert min(picture.size) > 100
    cached = ('--cfg-options', 'image_cache=cache')
    run(project, tool('browse_dataset'), CONFIG, '--num', 2, *cached)
    assert list((project / 'cache').iterdir())
    # Captions are cut at their first comma, and decoded letter by letter.
    assert 'view' in (project / 'samples.html').read_text()


def test_its_own_values_are_overridden_in_all_places(project):
    run(project, project / 'overridden.py')
