"""The walk-through of projects/example_loss, carried out as it is written in an empty folder."""

import json
import re

import pytest
import torch
from commands import run
from toy_data import ROOT

from projects.example_loss.example_loss import PairSigmoidLoss
from sen_toolbox.checkpoint.loading import load_checkpoint_file

pytestmark = pytest.mark.numeric

README = (ROOT / 'projects/example_loss/README.md').read_text(encoding='utf-8')
CONFIG = 'example_loss_tiny_synthetic'
# `path`: and the code block below it.
FILES = re.findall(r'^`(projects/\S+)`:\n```python\n(.*?)^```$', README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for block in re.findall(r'^```bash\n(.*?)^```$', README, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


def test_the_walk_through_shows_the_files_of_the_project():
    assert [path.rsplit('/', 1)[1] for path, _ in FILES] == ['example_loss.py', f'{CONFIG}.py']
    for path, text in FILES:
        assert (ROOT / path).read_text(encoding='utf-8') == text


@pytest.mark.slow
def test_its_steps_train_and_evaluate_in_an_empty_folder(tmp_path):
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    for path, text in FILES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding='utf-8')
    assert [re.search(r'tools/(\w+)', command)[1] for command in COMMANDS] == ['train', 'test']
    outputs = []
    for command in COMMANDS:
        python, *words = command.split()
        assert python == 'python'
        outputs.append(run(tmp_path, *words))
    work_dir = tmp_path / 'work_dirs' / CONFIG
    [log] = work_dir.glob('*/vis_data/scalars.json')
    first = json.loads(log.read_text().splitlines()[0])
    assert first['loss'] == first['sigmoid.loss'] > 0
    # 8 persons with 4 images of 2 captions.
    assert '32 images, 64 captions' in outputs[1]
    # The loss came from this folder, and its two parameters were trained.
    state = load_checkpoint_file(str(work_dir / 'epoch_2.pth'))['state_dict']
    assert state['heads.sigmoid.loss.bias'] != -10
    assert state['heads.sigmoid.loss.log_scale'] != torch.tensor(10.0).log()


def test_the_loss_equals_the_sum_over_all_pairs():
    torch.manual_seed(0)
    image, text, pids = torch.randn(4, 6), torch.randn(4, 6), [3, 5, 3, 8]
    total = 0.0
    for i, one in enumerate(image):
        for j, other in enumerate(text):
            logit = 10 * torch.cosine_similarity(one, other, dim=0) - 10
            probability = torch.sigmoid(logit)
            total -= torch.log(probability if pids[i] == pids[j] else 1 - probability)
    loss = PairSigmoidLoss()(image, text, torch.tensor(pids))
    assert loss.item() == pytest.approx(total.item() / 4, rel=1e-4)
