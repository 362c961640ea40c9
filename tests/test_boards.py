"""Boards during training and what the tools draw: they show what is there and change nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_same
from PIL import Image
from tiny import irra_config, sen_config
from toy_data import run_tool, tool, write_toy_config, write_toy_data

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.hooks import IllustrationBoardHook, RetrievalBoardHook
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokenizers import CLIPTokenizer
from sen_toolbox.text.tokens import Tokens
from sen_toolbox.text.words import caption_words
from sen_toolbox.visualization.curves import default_keys, draw_learning_curves, read_scalars
from sen_toolbox.visualization.embedding_map import draw_embedding_map, principal_plane
from sen_toolbox.visualization.page import board_page
from sen_toolbox.visualization.results import (
    illustrated_rows,
    other_person,
    ranked_queries,
    spread,
)
from sen_toolbox.visualization.word_board import draw_word_board
from sen_toolbox.visualization.word_maps import attention_maps, effect_maps

pytestmark = pytest.mark.numeric

HOOKS = """
default_hooks = dict(
    retrieval_board=dict(type='RetrievalBoardHook', interval=2, num_queries=2, topk=3),
    illustration_board=dict(type='IllustrationBoardHook', num_images=2))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('boards')
    write_toy_data(path / 'data')
    write_toy_config(path / 'plain.py', path / 'data')
    config = write_toy_config(path / 'boards.py', path / 'data')
    config.write_text(config.read_text() + HOOKS)
    for name in ('plain', 'boards'):
        run_tool('train', path / f'{name}.py', '--work-dir', path / 'work_dirs' / name)
    return path


@pytest.mark.slow
def test_a_training_with_boards_ends_with_the_same_bits(folder):
    plain, boards = (
        load_checkpoint_file(str(folder / 'work_dirs' / name / 'epoch_2.pth'))['state_dict']
        for name in ('plain', 'boards')
    )
    assert plain.keys() == boards.keys()
    assert all(torch.equal(plain[name], boards[name]) for name in plain)


@pytest.mark.slow
def test_boards_are_written_at_their_epochs_and_shown_by_tensorboard(folder):
    [images] = (folder / 'work_dirs/boards').glob('*/vis_data/vis_image')
    names = {path.name for path in images.iterdir()}
    assert names == {'retrieval_2.png', 'illustration_1.png', 'illustration_2.png'}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(images.parent))
    events.Reload()
    assert {'retrieval', 'illustration'} <= set(events.Tags()['images'])


@pytest.mark.parametrize('hook', [RetrievalBoardHook, IllustrationBoardHook])
def test_an_interval_of_no_epochs_is_refused(hook):
    with pytest.raises(ValueError, match='interval must be at least 1, got 0'):
        hook(interval=0)


def test_a_sought_image_has_its_rank_and_a_tie_counts_against_it():
    gallery = [dict(img_path=str(i), person_id=number) for i, number in enumerate([5, 6, 5, 7])]
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.5]])
    (row,) = ranked_queries(['a man'], [5], scores, gallery, topk=2, show_sought=True)
    assert (row['sought'], row['sought_rank']) == ('2', 3)


def test_shown_indices_are_spread_and_never_twice_the_same():
    assert spread(10, 2) == [2, 7]
    assert spread(3, 8) == [0, 1, 2]
    for total in range(1, 30):
        shown = spread(total, 7)
        assert len(set(shown)) == min(total, 7)
        assert max(shown) < total


def test_a_wrong_caption_is_of_another_person():
    person_ids = [1, 1, 2, 2, 2]
    assert all(person_ids[other_person(person_ids, i)] != person_ids[i] for i in range(5))
    with pytest.raises(ValueError, match='all 2 records are of identity 4'):
        other_person([4, 4], 0)


def small_sen():
    torch.manual_seed(0)
    return MODELS.build(sen_config(image_size=(64, 48))).eval()


def tokens_of(*captions):
    return CLIPTokenizer(20)(captions).map(torch.from_numpy)


def test_restorations_touch_no_generator_and_differ_by_caption_on_hidden_patches_alone():
    model = small_sen()
    batch = dict(images=torch.randn(2, 3, 64, 48), tokens=tokens_of('a red coat', 'a bag'))
    wrong = tokens_of('blue jeans and a yellow hat', 'green shoes')
    before = torch.get_rng_state()
    first, again, other = (
        illustrated_rows(model, batch, ['a', 'b'], others={'x': (wrong, ['c', 'd'])}, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    for row, same, different in zip(first, again, other, strict=True):
        shown = [row['columns'], row['others'][0]['columns']]
        assert [list(part) for part in shown] == [
            ['original', 'masked input', 'restored'],
            ['restored'],
        ]
        repeats = [same['columns'], same['others'][0]['columns']]
        for part, repeated in zip(shown, repeats, strict=True):
            assert all(np.array_equal(part[title], repeated[title]) for title in part)
        columns, wrong = row['columns'], row['others'][0]['columns']['restored']
        assert not np.array_equal(columns['masked input'], different['columns']['masked input'])
        visible = (columns['restored'] == columns['original']).all(axis=2)
        guided = (columns['restored'] != wrong).any(axis=2)
        assert guided.any()
        assert not (guided & visible & (wrong == columns['original']).all(axis=2)).any()
    assert [row['others'][0]['caption'] for row in first] == ['c', 'd']


def test_a_caption_is_divided_into_words_and_given_without_each_of_them():
    tokenizer = CLIPTokenizer(20)
    found = caption_words(tokenizer, 'a multicoloured windbreaker .')
    assert found.words == ['a', 'multicoloured', 'windbreaker']
    assert found.places[0] == slice(1, 2)
    assert [p.start for p in found.places[1:]] == [p.stop for p in found.places[:-1]]
    captions = ['a multicoloured windbreaker .', 'multicoloured windbreaker .', 'a windbreaker .']
    expected = tokenizer([*captions, 'a multicoloured .'])
    for name in ('ids', 'mask', 'end'):
        np.testing.assert_array_equal(getattr(found.tokens, name), getattr(expected, name))


def test_words_beyond_the_context_are_left_out():
    found = caption_words(CLIPTokenizer(6), 'a man in a red coat')
    assert found.words == ['a', 'man', 'in', 'a']
    assert found.tokens.ids.shape == (5, 6)


class ColourModel:
    """Embeds the mean of red in the upper and of blue in the lower half; words name the halves."""

    UPPER, LOWER, OTHER = 5, 6, 7

    def embed_images(self, images):
        half = images.shape[2] // 2
        upper, lower = images[:, 0, :half].mean((1, 2)), images[:, 2, half:].mean((1, 2))
        return torch.stack([upper, lower], dim=1)

    def embed_text(self, tokens):
        return torch.stack(
            [(tokens.ids == word).sum(dim=1).float() for word in (self.UPPER, self.LOWER)], dim=1
        )


def whole_and_without(*words):
    """A caption of these words, and it again without each."""
    rows = [list(words), *([w for w in words if w != word] + [0] for word in words)]
    ids = torch.tensor(rows)
    return Tokens(ids, ids > 0, torch.zeros(len(ids), dtype=torch.int64))


def test_the_effect_of_a_word_lies_where_what_it_names_is():
    image = torch.zeros(3, 64, 32)
    image[0, :32, 8:24] = 1
    image[2, 32:, 8:24] = 1
    (upper, other, lower), effects = effect_maps(ColourModel(), image, whole_and_without(5, 7, 6))
    assert upper.shape == (64, 32)
    assert effects.tolist() == pytest.approx([0.5, 0.0, 0.5], abs=1e-6)
    assert not other.any()
    assert upper[4:28, 12:20].min() > 0
    assert upper[40:].abs().max() == 0
    assert lower[36:60, 12:20].min() > 0
    assert lower[:24].abs().max() == 0


@pytest.mark.parametrize('size', [(64, 48), (70, 37), (9, 5)])
def test_effect_maps_have_the_size_of_the_image(size):
    maps, _ = effect_maps(ColourModel(), torch.rand(3, *size), whole_and_without(5))
    assert maps.shape == (1, *size)


def test_a_region_without_effect_is_dark_and_the_window_over_all_of_it_loses_what_hides():
    image = torch.zeros(3, 64, 32)
    image[0, 8:16] = 1
    maps, _ = effect_maps(ColourModel(), image, whole_and_without(5))
    # Filled with the mean, an eighth of the height and a quarter of the width loses 1 - mean of 1
    # on 8 x 8 of the upper half's 32 x 32 pixels.
    assert float(maps.max()) == pytest.approx((1 - 8 / 64) * 64 / 1024, abs=1e-6)
    assert tuple(np.unravel_index(int(maps.argmax()), (64, 32)))[0] in (11, 12)


@pytest.mark.parametrize('config', [sen_config, irra_config])
def test_attention_maps_lie_on_the_grid_and_differ_by_word(config):
    torch.manual_seed(0)
    model = MODELS.build(config(image_size=(64, 48))).eval()
    row, image = tokens_of('a red coat'), torch.randn(3, 64, 48)
    before = torch.get_rng_state()
    maps = attention_maps(model, image, row, [slice(1, 2), slice(2, 4)])
    assert maps.shape == (2, 4, 3)
    assert maps.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1])
    assert (maps > 0).all()
    assert not torch.allclose(maps[0], maps[1])
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(before, torch.get_rng_state())


def test_the_attention_of_irra_is_that_of_its_cross_attention_by_hand():
    torch.manual_seed(0)
    model = MODELS.build(irra_config(image_size=(64, 48))).eval()
    row, image = tokens_of('a red coat'), torch.randn(3, 64, 48)
    maps = attention_maps(model, image, row, [slice(2, 3)])
    pair = model.backbone(image[None], row, model.reads)
    neck = model.heads['mlm'].neck
    attention = neck.cross_attention
    query = neck.text_norm(pair.text.tokens)[0, 2]
    keys = neck.image_norm(pair.image.tokens)[0]
    weight, bias = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    # One head, as the width is 64.
    scores = (keys @ weight[1].T + bias[1]) @ (weight[0] @ query + bias[0]) / 64**0.5
    expected = scores.softmax(dim=0)[1:]
    assert_same(maps[0].flatten(), expected / expected.max())


def test_a_model_without_cross_attention_or_guided_by_the_image_has_no_attention_maps():
    config = sen_config(image_size=(64, 48))
    config['heads']['restoration']['neck']['guide'] = 'image'
    model = MODELS.build(config)
    assert attention_maps(model, torch.randn(3, 64, 48), tokens_of('a'), [slice(1, 2)]) is None


def test_a_word_board_colours_the_strongest_region_and_leaves_the_rest_grey():
    image = np.full((96, 48, 3), 200, np.uint8)
    strong, none = np.zeros((4, 2)), np.full((4, 2), -1.0)
    strong[0, 0] = 1
    row = dict(image=image, caption='a red coat', label='effect')
    board = np.asarray(
        draw_word_board([{**row, 'words': [('red', strong, 0.5), ('coat', none, 0.0)]}], height=96)
    ).astype(int)
    coloured = (board.max(axis=2) - board.min(axis=2)) > 60
    rows, columns = np.nonzero(coloured)
    assert len(rows) > 100
    assert rows.max() - rows.min() < 60
    assert columns.max() - columns.min() < 48


@pytest.mark.parametrize(
    ('rows', 'height', 'message'),
    [
        ([], 96, 'there are no rows'),
        ([dict(words=[])], 96, 'row 0 has no words'),
        ([dict(words=[1])], 20, 'at least 48'),
    ],
)
def test_a_word_board_needs_words_and_room(rows, height, message):
    with pytest.raises(ValueError, match=message):
        draw_word_board(rows, height=height)


def test_the_plane_is_that_of_the_largest_variance_of_each_kind_centred():
    torch.manual_seed(0)
    texts = torch.randn(20, 5) * torch.tensor([5.0, 0.1, 3.0, 0.1, 0.1])
    images = torch.randn(30, 5) * torch.tensor([5.0, 0.1, 3.0, 0.1, 0.1]) + 100
    image_places, text_places, share = principal_plane(images, texts)
    assert share > 0.98
    assert float(image_places.mean(dim=0).abs().max()) < 1e-4
    both = torch.cat([images - images.mean(0), texts - texts.mean(0)]).double()
    values = torch.linalg.eigvalsh(both.T @ both).flip(0)
    assert share == pytest.approx(float(values[:2].sum() / values.sum()), abs=1e-5)
    found = torch.cat([image_places, text_places])
    torch.testing.assert_close(found.square().sum(dim=0), values[:2], rtol=1e-4, atol=1e-4)


def test_a_map_shows_each_person_in_a_colour_of_its_own(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (32, 64)).save(path)
    torch.manual_seed(0)
    board = draw_embedding_map(
        torch.randn(4, 8), [1, 1, 2, 2], torch.randn(3, 8), [1, 2, 2], {1: path, 2: path}
    )
    colours = {colour for _, colour in board.getcolors(maxcolors=2**20)}
    assert {(0, 114, 178), (213, 94, 0)} <= colours
    assert (0, 158, 115) not in colours
    with pytest.raises(ValueError, match='2 to 12 identities, got 1'):
        draw_embedding_map(torch.randn(2, 8), [1, 1], torch.randn(1, 8), [1], {1: path})


def test_collapsed_embeddings_can_be_drawn(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (32, 64)).save(path)
    same = torch.ones(2, 8)
    assert draw_embedding_map(same, [1, 2], same, [1, 2], {1: path, 2: path}, size=200)


def test_a_page_holds_its_pictures_and_escapes_its_texts():
    page = board_page('<b>', [('<i>one', 'a & b', Image.new('RGB', (4, 4)))])
    assert '<b>' not in page
    assert '&lt;i&gt;one' in page
    assert re.findall('src="(.{22})', page) == ['data:image/png;base64,']


def write_log(path, rows):
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(json.dumps(row) for row in rows))


def test_logs_of_a_resumed_run_are_joined_and_the_later_one_counts(tmp_path):
    first = [dict(iter=i, step=i, loss=float(i)) for i in (10, 20, 30)]
    second = [dict(iter=i, step=i, loss=-float(i)) for i in (30, 40)]
    write_log(tmp_path / '1/vis_data/scalars.json', [*first, {'step': 1, 't2i/R1': 50.0}])
    write_log(tmp_path / '2/vis_data/scalars.json', [*second, {'step': 2, 't2i/R1': 60.0}])
    rows = read_scalars(tmp_path)
    assert [row['loss'] for row in rows if 'loss' in row] == [10, 20, -30, -40]
    assert [row['t2i/R1'] for row in rows if 't2i/R1' in row] == [50, 60]


def test_the_torn_last_line_of_a_killed_run_is_left_out(tmp_path):
    write_log(tmp_path / '1/vis_data/scalars.json', [dict(iter=1, step=1, loss=2.0)])
    with (tmp_path / '1/vis_data/scalars.json').open('a') as file:
        file.write('\n{"iter": 2, "st')
    assert [row['loss'] for row in read_scalars(tmp_path)] == [2.0]


def test_a_folder_without_logs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nor a work dir with a'):
        read_scalars(tmp_path)


def test_curves_of_unknown_keys_name_the_logged_ones():
    runs = {'a': [dict(iter=1, step=1, loss=1.0)]}
    assert default_keys(runs) == ['loss']
    with pytest.raises(KeyError, match="no run logged 'los'; logged are .*'loss'"):
        draw_learning_curves(runs, keys=['los'])
    with pytest.raises(ValueError, match='1 to 8 runs'):
        draw_learning_curves({}, keys=['loss'])


@pytest.mark.slow
def test_the_tools_draw_what_a_training_left(folder):
    work_dir = folder / 'work_dirs/boards'
    run_tool('plot_logs', work_dir, folder / 'work_dirs/plain', '--out', folder / 'curves.png')
    assert Image.open(folder / 'curves.png').width > 800
    boards = ['retrieval', 'illustration', 'failures', 'words', 'map']
    out = ['--out', folder / 'results.png', '--html', folder / 'results.html']
    run_tool(
        'show_results',
        folder / 'boards.py',
        work_dir / 'epoch_2.pth',
        '--boards',
        *boards,
        *out,
        *('--queries', 2, '--restored', 1, '--top-k', 3),
    )
    page = (folder / 'results.html').read_text()
    assert page.count('<img src="data:image/png') == len(boards)
    assert re.findall('<h2>(.*?)</h2>', page) == [name.capitalize() for name in boards]
    assert Image.open(folder / 'results.png').height > 1000


def test_a_page_alone_is_written_without_a_picture_beside_it():
    parse_args = tool('show_results').parse_args
    assert parse_args(['a.py', 'a.pth', '--html', 'a.html']).out is None
    assert parse_args(['a.py', 'a.pth']).out == Path('results.png')
