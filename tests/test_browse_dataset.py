"""The page of samples: what stands there is what the model sees."""

import base64
import io
import random
import re

import numpy as np
import pytest
from PIL import Image
from toy_data import run_tool, write_toy_config, write_toy_data

from sen_toolbox.datasets.transforms import MaskWords
from sen_toolbox.text.decoding import seen_pieces
from sen_toolbox.text.tokenizers import CLIPTokenizer
from sen_toolbox.visualization.sample_page import sample_page


def test_masking_the_pipeline_does_is_found_again():
    random.seed(3)
    tokenizer = CLIPTokenizer(40)
    text = 'a woman in a long red coat with a small black bag and white shoes'
    mask = MaskWords(tokenizer=tokenizer, noun_adjective_rate=0.5, other_rate=0.3)
    results = mask({'tokens': tokenizer([text])})
    pieces = seen_pieces(tokenizer, results['tokens'].ids[0], results['word_labels'][0])
    assert 2 < sum(bool(piece.was) for piece in pieces) < len(pieces)
    assert ' '.join(piece.was or piece.text for piece in pieces) == text


def test_text_of_the_data_cannot_break_the_page():
    sample = dict(
        image=Image.new('RGB', (2, 3)),
        name='<a>.jpg',
        person_id=3,
        captions=[('a <b>man</b> & co', [('<b>', '"x"', True)])],
    )
    page = sample_page('<t>', [sample])
    assert 'a &lt;b&gt;man&lt;/b&gt; &amp; co' in page
    assert '<mark>&lt;b&gt;</mark><span class="was">(&quot;x&quot;)</span>' in page
    assert '<title>&lt;t&gt;</title>' in page
    assert '<code>&lt;a&gt;.jpg</code>' in page


@pytest.fixture
def toy(tmp_path):
    return write_toy_config(tmp_path / 'toy.py', write_toy_data(tmp_path / 'data'))


def browse(toy, *arguments):
    out = toy.parent / 'out/page.html'
    run_tool('browse_dataset', toy, '--out', out, *arguments)
    return out.read_text(encoding='utf-8')


def images_of(page):
    return [
        np.array(Image.open(io.BytesIO(base64.b64decode(text))))
        for text in re.findall('data:image/png;base64,([^"]+)"', page)
    ]


@pytest.mark.slow
def test_the_tool_shows_augmented_samples_with_masked_words(toy):
    page = browse(toy, '--num', 6)
    images = images_of(page)
    assert [image.shape for image in images] == [(64, 32, 3)] * 6
    assert len(re.findall('<b>caption</b>', page)) == 6
    assert page.count('<mark>') >= 6
    assert '[mask]' in page
    assert page == browse(toy, '--num', 6)
    assert page != browse(toy, '--num', 6, '--seed', 1)


def test_without_augmentation_the_pixels_are_those_of_the_pipeline(toy):
    page = browse(toy, '--split', 'test', '--num', 100)
    [source] = re.findall(r'<code>([^<]*test/2000_0.jpg)</code>', page)
    names = re.findall('<code>([^<]*)</code>', page)
    assert len(names) == 7
    assert '<mark>' not in page
    with Image.open(source) as image:
        expected = np.array(image.resize((32, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images_of(page)[names.index(source)], expected)
    assert page.count('<b>caption</b>') == 14
