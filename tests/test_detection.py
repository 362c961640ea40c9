"""People are cut out of photos and videos, and a hit leads back to its place."""

import json
import os
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from sen_toolbox.search import PersonSearch
from sen_toolbox.search.cli import main
from sen_toolbox.search.detection import Detection, PersonCutter, open_detector
from sen_toolbox.search.detection.boxes import clip_box, drop_doubles, iou
from sen_toolbox.search.detection.repeats import Repeats
from sen_toolbox.search.detection.torchvision_detector import TorchvisionDetector
from sen_toolbox.search.detection.video import read_frames
from sen_toolbox.search.index import ModelId
from sen_toolbox.search.results_page import results_page

COLOURS = dict(red=(200, 20, 20), green=(20, 200, 20), blue=(20, 20, 200))
STREET = Path(__file__).parents[2] / 'shared/media/vtest.avi'


class ColourEncoder:
    """Embeds the mean colour of an image, and words for colours."""

    model_id = ModelId('colours', 'f', 3)

    def prepare(self, image):
        return cv2.resize(image, (4, 8)).transpose(2, 0, 1)

    def embed_prepared(self, images):
        means = images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def embed_text(self, sentences):
        colours = np.array([COLOURS[sentence] for sentence in sentences], np.float32)
        return colours / np.linalg.norm(colours, axis=1, keepdims=True)

    def unknown_words(self, sentence):
        return []

    def usual_score(self, sentence):
        return None


class ColourDetector:
    """Finds the bright rectangles on a grey image; remembers how often it was asked."""

    name = 'colours'

    def __init__(self, break_after=None):
        self.asked, self.break_after = 0, break_after

    def __call__(self, image):
        if self.asked == self.break_after:
            raise KeyboardInterrupt
        self.asked += 1
        bright = (np.ptp(image.astype(int), axis=2) > 90).astype(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(bright)
        return [
            Detection((int(x), int(y), int(x + w), int(y + h)), 0.9)
            for x, y, w, h, pixels in boxes[1:]
            if pixels > 200
        ]


def street(*people):
    """A grey image with a coloured rectangle 24 x 64 for each (colour, x)."""
    image = np.full((120, 240, 3), 128, np.uint8)
    for colour, x in people:
        image[30:94, x : x + 24] = COLOURS[colour]
    return image


def write_video(path, frames, rate=10, code='MJPG'):
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), rate, size)
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """4 s: red walks to the right; blue appears in the third second."""
    frames = [street(('red', 5 * n), *[('blue', 210)] * (20 <= n < 30)) for n in range(40)]
    return write_video(tmp_path_factory.mktemp('video') / 'walk.avi', frames)


@pytest.fixture
def folder(video, tmp_path):
    (tmp_path / 'media').mkdir()
    shutil.copy(video, tmp_path / 'media')
    return tmp_path / 'media'


@pytest.fixture(scope='module')
def tool():
    path = Path(__file__).parents[1] / 'tools/video_queries.py'
    spec = spec_from_file_location('video_queries', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_search(tmp_path, name='index'):
    return PersonSearch(ColourEncoder(), index=tmp_path / name)


def summary(search):
    """All that an index holds, in order, with the bits of the vectors."""
    return [
        (entry.path, json.dumps(entry.place, sort_keys=True), vector.tobytes())
        for entry, vector in search.gallery.items()
    ]


def test_a_list_of_queries_is_chosen_by_name(tool):
    content = json.loads(Path(tool.__file__).with_suffix('.json').read_text())
    for name in ('queries', 'new_queries'):
        found = tool.list_of_queries(content, name)
        assert len(found) == 16
        assert {who for query in found for who in query['right']} <= set(content['people'])
    with pytest.raises(ValueError, match="no list 'frames'; the file has queries, new_queries"):
        tool.list_of_queries(content, 'frames')


def test_a_hit_in_a_video_leads_back_to_its_place(folder, tmp_path):
    search = open_search(tmp_path)
    report = search.index(folder, detect=ColourDetector())
    assert (report.added, len(search)) == (1, 5)
    hit, *others = search.search('blue', k=5)
    assert hit.path == str(folder / 'walk.avi')
    assert (hit.place['time'], hit.place['frame']) == (2.0, 20)
    # Compression moves an edge by a pixel or two.
    assert hit.place['box'] == pytest.approx([210, 30, 234, 94], abs=3)
    assert sorted(other.place['frame'] for other in others) == [0, 10, 20, 30]
    picture = np.array(Image.open(hit.picture))
    x0, y0, x1, y1 = hit.place['box']
    assert picture.shape == (y1 - y0, x1 - x0, 3)
    assert np.abs(picture.mean(axis=(0, 1)) - COLOURS['blue']).max() < 20
    assert hit.where.startswith('0:02.0, frame 20, box ')
    assert search.search(image=hit.picture, k=1)[0].score == pytest.approx(1, abs=1e-5)
    page = results_page('blue', [hit])
    assert 'data:image/jpeg' in page and hit.where in page


def test_a_person_in_a_photo_has_a_box_and_no_time(tmp_path):
    photo = tmp_path / 'photo.png'
    Image.fromarray(street(('red', 20), ('green', 100))).save(photo)
    Image.fromarray(street()).save(tmp_path / 'nobody.png')
    search = open_search(tmp_path)
    report = search.index([photo, tmp_path / 'nobody.png'], detect=ColourDetector())
    assert (report.added, report.skipped, len(search)) == (2, {}, 2)
    [hit] = search.search('green', k=1)
    crop = hit.place['crop']
    assert (hit.path, hit.place) == (str(photo), dict(box=[100, 30, 124, 94], score=0.9, crop=crop))
    assert hit.where == 'box 100, 30, 124, 94'


def test_whole_images_are_their_own_pictures(tmp_path):
    Image.fromarray(street(('red', 20))).save(tmp_path / 'crop.png')
    search = open_search(tmp_path)
    search.index([tmp_path / 'crop.png'])
    [hit] = search.search('red', k=1)
    assert (hit.picture, hit.where) == (hit.path, '')


def test_the_index_may_move_with_its_crops(folder, tmp_path):
    open_search(tmp_path).index(folder, detect=ColourDetector())
    (tmp_path / 'index').rename(tmp_path / 'moved')
    [hit] = open_search(tmp_path, 'moved').search('blue', k=1)
    assert Path(hit.picture).is_relative_to(tmp_path / 'moved') and Path(hit.picture).is_file()


def test_what_was_indexed_is_not_looked_at_again(folder, tmp_path):
    search = open_search(tmp_path)
    search.index(folder, detect=ColourDetector())
    detector = ColourDetector()
    assert search.index(folder, detect=detector).unchanged == 1
    os.utime(folder / 'walk.avi', ns=(1, 1))
    assert search.index(folder, detect=detector).unchanged == 1
    assert detector.asked == 0
    Image.fromarray(street(('green', 9))).save(folder / 'new.png')
    assert search.index(folder, detect=detector).added == 1
    assert detector.asked == 1


@pytest.mark.parametrize('again', [dict(every=2.0), dict(name='other')])
def test_other_settings_do_it_again_when_asked(folder, tmp_path, again):
    search = open_search(tmp_path)
    search.index(folder, detect=ColourDetector())
    before = summary(search)
    detector = ColourDetector()
    detector.name = again.pop('name', detector.name)
    with pytest.raises(ValueError, match=r'such as .*walk\.avi as people cut out, .*every 1 s'):
        search.index(folder, detect=detector, **again)
    assert (summary(search), detector.asked) == (before, 0)
    report = search.index(folder, detect=detector, reindex=True, **again)
    assert (report.changed, detector.asked) == (1, 2 if again else 4)
    assert len(search) == (3 if again else 5)


def test_whole_images_become_photos_when_asked(tmp_path):
    Image.fromarray(street(('red', 20), ('green', 100))).save(tmp_path / 'photo.png')
    search = open_search(tmp_path)
    photo = [tmp_path / 'photo.png']
    search.index(photo)
    assert len(search) == 1
    with pytest.raises(ValueError, match=r'photo\.png as whole images: .*--reindex'):
        search.index(photo, detect=ColourDetector())
    assert search.index(photo, detect=ColourDetector(), reindex=True).changed == 1
    assert len(search) == 2
    with pytest.raises(ValueError, match='another way'):
        search.index(photo)
    assert len(search) == 2
    assert search.index(photo, reindex=True).changed == 1
    assert len(search) == 1


@pytest.mark.parametrize('tear', [False, True])
def test_an_interrupted_video_continues_at_its_frame(folder, tmp_path, tear):
    search = open_search(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search.index(folder, detect=ColourDetector(break_after=3), batch_size=2)
    assert len(search) == 0
    if tear:
        [journal] = (tmp_path / 'index/crops').glob('*/*/found.jsonl')
        journal.write_bytes(journal.read_bytes()[:-9])
    detector = ColourDetector()
    search.index(folder, detect=detector, batch_size=2)
    assert detector.asked == (2 if tear else 1)
    undisturbed = open_search(tmp_path, 'other')
    undisturbed.index(folder, detect=ColourDetector(), batch_size=2)
    assert summary(search) == summary(undisturbed)


def test_a_lost_crop_is_cut_again(folder, tmp_path):
    search = open_search(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search.index(folder, detect=ColourDetector(break_after=2))
    sorted((tmp_path / 'index/crops').glob('*/*/*.jpg'))[-1].write_bytes(b'')
    search.index(folder, detect=ColourDetector())
    assert len(search) == 5


def test_crops_of_a_deleted_video_go_with_it(folder, tmp_path):
    Image.fromarray(street(('red', 20))).save(folder / 'photo.png')
    search = open_search(tmp_path)
    search.index(folder, detect=ColourDetector())
    (folder / 'walk.avi').unlink()
    search.index(folder, detect=ColourDetector())
    [hit] = search.search('blue', k=9)
    assert [str(path) for path in (tmp_path / 'index/crops').glob('*/*/*.jpg')] == [hit.picture]


def test_damaged_videos_are_named_and_skipped(folder, tmp_path):
    (folder / 'noise.mp4').write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / 'empty.avi').write_bytes(b'')
    (folder / 'header.avi').write_bytes((folder / 'walk.avi').read_bytes()[:300])
    (folder / 'photo.avi').write_bytes(b'<html></html>')
    (folder / os.fsdecode(b'\xff.avi')).write_bytes((folder / 'walk.avi').read_bytes())
    report = open_search(tmp_path).index(folder, detect=ColourDetector())
    names = {Path(path).name: reason for path, reason in report.skipped.items()}
    unreadable = 'is not a video, or holds no frame that can be decoded'
    assert names.pop('empty.avi') == 'is empty'
    assert names.pop(os.fsdecode(b'\xff.avi')) == 'has a name that is not text: rename it'
    assert names == dict.fromkeys(('noise.mp4', 'header.avi', 'photo.avi'), unreadable)
    assert report.added == 1


def test_a_video_that_breaks_off_is_used_and_said_to(folder, tmp_path):
    content = (folder / 'walk.avi').read_bytes()
    (folder / 'walk.avi').write_bytes(content[: len(content) // 2])
    search = open_search(tmp_path)
    with pytest.warns(UserWarning, match=r'walk\.avi breaks off after \d+ of 40 frames'):
        search.index(folder, detect=ColourDetector())
    assert 1 <= len(search) < 5


@pytest.mark.parametrize('every', [0.05, 0.1, 0.25, 1.0, 1.5, 100.0])
def test_frames_are_the_first_of_each_span(video, every):
    spans = [int(n / 10 / every + 1e-6) for n in range(40)]
    expected = [n for n in range(40) if n == 0 or spans[n] != spans[n - 1]]
    frames = list(read_frames(str(video), every))
    assert [frame.number for frame in frames] == expected
    assert [frame.time for frame in frames] == pytest.approx([n / 10 for n in expected])
    assert [frame.share for frame in frames] == pytest.approx([(n + 1) / 40 for n in expected])
    later = read_frames(str(video), every, after=expected[0])
    assert [frame.number for frame in later] == expected[1:]


def test_other_containers_keep_their_times(tmp_path):
    path = write_video(tmp_path / 'a.mp4', [street(('red', n)) for n in range(50)], 25, 'mp4v')
    assert [frame.time for frame in read_frames(str(path), 1.0)] == pytest.approx([0, 1])


def test_the_time_between_frames_is_above_zero(tmp_path):
    for every in (0, -1, float('nan')):
        with pytest.raises(ValueError, match=r'every \(in seconds\) must be above 0, got'):
            PersonCutter(ColourDetector(), tmp_path, every=every)


def test_who_stands_still_gives_three_crops():
    repeats = Repeats()
    standing, walking = (0, 0, 10, 30), [(8 * n, 50, 8 * n + 10, 80) for n in range(6)]
    kept = [repeats.keep([standing, box]) for box in walking]
    assert [pair[0] for pair in kept] == [True] * 3 + [False] * 3
    assert all(pair[1] for pair in kept)


def test_a_place_is_forgotten_after_five_frames_without_anybody():
    box = (0, 0, 10, 30)
    for pause, again in ((5, False), (6, True)):
        repeats = Repeats()
        for _ in range(3):
            repeats.keep([box])
        for _ in range(pause - 1):
            assert repeats.keep([]) == []
        assert repeats.keep([box]) == [again]


def test_two_at_one_place_count_apart():
    repeats = Repeats()
    pair = [(0, 0, 10, 30), (1, 0, 11, 30)]
    assert [repeats.keep(pair) for _ in range(4)] == [[True, True]] * 3 + [[False, False]]


def test_a_box_within_a_surer_one_is_dropped():
    large, inside, beside = (0, 0, 20, 40), (5, 5, 15, 25), (18, 0, 38, 40)
    boxes = [Detection(inside, 0.5), Detection(beside, 0.7), Detection(large, 0.9)]
    assert drop_doubles(boxes, 0.6) == [Detection(large, 0.9), Detection(beside, 0.7)]
    assert iou(large, inside) == pytest.approx(200 / 800)
    assert iou(large, (20, 0, 40, 40)) == 0


def test_boxes_stay_within_the_image():
    assert clip_box((-3.2, 1.6, 99, 7.4), (6, 50)) == (0, 2, 50, 6)


def test_noise_and_tiny_images_hold_nobody():
    hog = open_detector('hog')
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert hog(noise) == []
    assert hog(noise[:5, :3]) == []
    assert hog(noise[:1]) == []


def test_an_opencv_without_the_detector_says_what_to_do(monkeypatch):
    monkeypatch.delattr(cv2, 'HOGDescriptor')
    with pytest.raises(ModuleNotFoundError, match='opencv-python<5'):
        open_detector('hog')


@pytest.mark.skipif(not STREET.exists(), reason='the street video is not there')
def test_people_of_a_real_street_are_found():
    [frame] = read_frames(str(STREET), 1000.0)
    people = open_detector('hog')(frame.image)
    assert len(people) >= 4
    rows, columns = frame.image.shape[:2]
    for x0, y0, x1, y1 in (person.box for person in people):
        assert 0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows
        assert 1.5 < (y1 - y0) / (x1 - x0) < 3.5


@pytest.mark.slow
def test_weights_of_torchvision_are_recognised_and_used(tmp_path):
    arch = 'ssdlite320_mobilenet_v3_large'
    torch.manual_seed(0)
    model = get_model(arch, weights=None, weights_backbone=None)
    # One class wins everywhere, with a score above the limit.
    for layer in model.head.classification_head.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.out_channels % 91 == 0:
            torch.nn.init.zeros_(layer.weight)
            bias = torch.zeros(layer.out_channels // 91, 91)
            bias[:, 1] = 9
            layer.bias.data = bias.flatten()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    detector = open_detector(tmp_path / 'weights.pth')
    assert detector.name.startswith(arch)
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    found = detector(image)
    with torch.inference_mode():
        [expected] = model.eval()([torch.from_numpy(image).permute(2, 0, 1) / 255])
    assert len(found) > 0
    for person, box in zip(found, expected['boxes'][expected['labels'] == 1], strict=False):
        assert person.box == pytest.approx(box.round().tolist(), abs=1)
    # What does not count batches is the same detector, trained with frozen batch norms.
    state = {k: v for k, v in model.state_dict().items() if 'num_batches' not in k}
    torch.save(state, tmp_path / 'frozen.pth')
    assert TorchvisionDetector(tmp_path / 'frozen.pth')(image) == found


def test_files_that_are_no_detectors_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no file .*absent\.pth .*give "hog"'):
        open_detector(tmp_path / 'absent.pth')
    (tmp_path / 'text.pth').write_text('weights')
    torch.save(dict(weight=torch.zeros(3)), tmp_path / 'other.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    torch.save(dict(model=Path('x')), tmp_path / 'pickle.pth')
    for name in ('text', 'other', 'list', 'pickle'):
        with pytest.raises(ValueError, match=rf'{name}\.pth does not hold the weights of a det'):
            open_detector(tmp_path / f'{name}.pth')


def test_the_command_passes_detector_and_time(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        'sen_toolbox.search.person_search.load_encoder', lambda *_, **__: ColourEncoder()
    )
    asked = {}

    def fake(which, device):
        asked.update(which=which, device=device)
        return ColourDetector()

    monkeypatch.setattr('sen_toolbox.search.detection.open_detector', fake)
    monkeypatch.chdir(tmp_path)
    assert main(['index', str(folder), '--detect', '--every', '2']) == 0
    assert asked == dict(which='hog', device='cpu')
    assert 'sen_index holds 3 persons' in capsys.readouterr().out
    # As before, by what calls itself the same detector.
    again = ['index', str(folder), '--detect', 'weights.pth']
    assert main([*again, '--every', '2']) == 0
    assert asked['which'] == 'weights.pth'
    assert main(again) == 1
    assert 'replace their entries with --reindex' in capsys.readouterr().err
    assert main([*again, '--reindex']) == 0
    capsys.readouterr()
    assert main(['query', 'blue', '--k', '1']) == 0
    assert '0:02.0, frame 20, box' in capsys.readouterr().out
    assert main(['query', 'blue', '--k', '1', '--json']) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row['place']['frame'], Path(row['place']['crop']).is_file()) == (20, True)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--every', '1'], '--every takes --detect'),
        (['--approximate-kind', 'ivf'], '--approximate-kind takes --approximate'),
        (['--approximate', '--approximate-kind', 'hnsw'], 'hnsw takes --uri'),
        (['--detect', '--every', '0'], "'0' is not a number of seconds above 0"),
        (['--detect', '--every', 'nan'], "'nan' is not a number of seconds above 0"),
    ],
)
def test_senseless_command_lines_are_refused(arguments, message, tmp_path, capsys):
    try:
        code = main(['index', str(tmp_path), *arguments])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_the_labels_of_the_street_fit_together(tool):
    content = json.loads(Path(tool.__file__).with_suffix('.json').read_text())
    people = set(content['people'])
    assert len(content['queries']) == 16
    assert {name for query in content['queries'] for name in query['right']} <= people
    boxes = [label for labels in content['frames'].values() for label in labels]
    assert {name for name, *_ in boxes} == people
    assert all(0 <= x0 < x1 <= 768 and 0 <= y0 < y1 <= 576 for _, x0, y0, x1, y1 in boxes)


def test_a_crop_is_of_the_person_it_overlaps_most(tool):
    frames = {'10': [['her', 0, 0, 10, 30], ['him', 4, 0, 14, 30]]}
    assert tool.person_in(dict(frame=10, box=[1, 0, 11, 30]), frames) == 'her'
    assert tool.person_in(dict(frame=10, box=[4, 0, 14, 20]), frames) == 'him'
    assert tool.person_in(dict(frame=10, box=[12, 0, 22, 30]), frames) is None
    assert tool.person_in(dict(frame=11, box=[1, 0, 11, 30]), frames) is None
