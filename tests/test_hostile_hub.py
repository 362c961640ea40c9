"""A repository of the hub is read as data: it runs nothing and reaches nothing but itself."""

import json

import open_clip
import pytest
import torch
from hub_cache import (
    ARCHITECTURES,
    changed_text,
    changed_vision,
    pickled,
    repo_files,
    write_repo,
)
from test_hub import refused


@pytest.mark.parametrize(
    ('config', 'said'),
    [
        (changed_text(hf_tokenizer_name='evil/words'), "tokenizer from elsewhere, 'evil/words'"),
        (changed_text(hf_tokenizer_name='/etc'), "tokenizer from elsewhere, '/etc'"),
        (changed_text(hf_tokenizer_name=dict(a=1)), "tokenizer from elsewhere, {'a': 1}"),
        (changed_text(tokenizer_kwargs=['evil']), 'prepares its input by'),
        (changed_text(tokenizer_kwargs=dict(trust_remote_code=True)), 'not known here'),
        (changed_text(tokenizer_mode='clips'), 'not known here'),
        (changed_text(hf_model_name='evil/text'), 'a download of its own'),
        (changed_vision(timm_model_name='hf-hub:evil/model'), 'timm reads from elsewhere'),
        (changed_vision(timm_model_name='local-dir:evil'), 'timm reads from elsewhere'),
        (changed_vision(width='evil'), 'cannot be built'),
        (dict(embed_dim=16), 'does not describe a model of open_clip'),
        ('evil', 'does not describe a model of open_clip'),
    ],
)
def test_a_repository_reaches_nothing_but_itself(config, said, hub, asked):
    write_repo(hub, 'evil/model', repo_files(config))
    assert said in refused('hf-hub:evil/model')
    assert asked == []


def test_code_in_a_repository_does_not_run(hub, tmp_path):
    files = repo_files(changed_text(hf_tokenizer_name='evil/model', vocab_size=14))
    files['tokenizer_config.json'] = json.dumps(
        dict(auto_map=dict(AutoTokenizer=['evil.Evil', None]))
    ).encode()
    files['config.json'] = b'{}'
    files['evil.py'] = f'open({str(tmp_path / "harmed")!r}, "w")\nclass Evil: pass\n'.encode()
    del files['open_clip_pytorch_model.bin']
    state = open_clip.model.CLIP(**changed_text(vocab_size=14)).state_dict()
    write_repo(hub, 'evil/model', {**files, 'open_clip_pytorch_model.bin': pickled(state)})
    assert 'evil/model' in refused('hf-hub:evil/model')
    assert not (tmp_path / 'harmed').exists()


class Harm:
    def __reduce__(self):
        return open, ('harmed', 'w')


def test_a_pickle_in_a_repository_does_not_run(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_repo(hub, 'evil/model', repo_files(ARCHITECTURES['small-clip']))
    torch.save(dict(state_dict=Harm()), folder / 'open_clip_pytorch_model.bin')
    assert 'not a readable checkpoint' in refused('hf-hub:evil/model')
    assert not (tmp_path / 'harmed').exists()


def test_weights_of_another_model_are_told_by_their_names(hub):
    write_repo(hub, 'evil/model', repo_files(ARCHITECTURES['small-siglip']))
    assert 'does not fit the model: missing text.' in refused('hf-hub:evil/model')
