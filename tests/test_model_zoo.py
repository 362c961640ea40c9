"""The model zoo is what its sources say, and leaves out no config and no published method."""

import importlib.util
import json
import re
from itertools import chain

import pytest
import yaml
from toy_data import ROOT

_spec = importlib.util.spec_from_file_location('zoo', ROOT / 'tools/make_model_zoo.py')
zoo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(zoo)
PAGE = (ROOT / 'docs/model_zoo.md').read_text(encoding='utf-8')
PUBLISHED = zoo.read_published()
# The tables of the SEN README as printed; the file names the commit.
README = json.loads((ROOT / 'tests/data/sen_readme_tables.json').read_text())['tables']
PRINTED = [(dataset, method) for dataset, rows in README.items() for method in rows]


def section(title):
    """The rows of a section's table, without its header, as lists of cells."""
    text = re.search(rf'^## {re.escape(title)}\n(.*?)(?=^## |\Z)', PAGE, re.M | re.S)[1]
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]]


def result_of(dataset, method):
    [result] = [row for row in PUBLISHED['results'][dataset] if row['method'] == method]
    return result


def plain(cell):
    """A cell without its link."""
    return re.sub(r'^\[(.*)\]\(.*\)$', r'\1', cell)


def test_the_page_is_what_the_generator_makes():
    assert zoo.make_page() == PAGE, 'run python tools/make_model_zoo.py'


def test_every_config_has_a_row():
    configs = zoo.find_configs()
    assert 'configs/sen/sen_vitb_cuhk.py' in configs
    rows = section('Configs of this toolbox')
    linked = {re.search(r'\]\(\.\./(.*)\)', row[0])[1] for row in rows}
    assert linked == set(configs)


def test_every_metafile_names_configs_that_exist():
    assert set(zoo.read_models()) <= set(zoo.find_configs())


def test_the_tables_of_the_readme_are_complete():
    # Counted in the README.
    assert {dataset: len(rows) for dataset, rows in README.items()} == {
        'CUHK-PEDES': 25,
        'ICFG-PEDES': 15,
        'RSTPReid': 11,
    }


def test_the_readme_counts_the_systems_of_sens_tables_that_are_here():
    configs, models = zoo.find_configs(), zoo.read_models()
    collections = {
        collection['Name']: collection
        for path in (*ROOT.glob('configs/*/metafile.yml'), *ROOT.glob('projects/*/metafile.yml'))
        for collection in yaml.safe_load(path.read_text(encoding='utf-8'))['Collections']
    }
    systems, parity = {method for _, method in PRINTED}, {}
    for method in systems:
        entry = PUBLISHED['methods'][method]
        for path in chain(*(zoo.configs_for(entry, name, configs) for name in zoo.SHORT_NAMES)):
            collection = collections[models[path]['In Collection']]
            parity[method] = collection['Metadata']['Parity']
    equal = [method for method, kind in parity.items() if kind == 'with the official code']
    assert (
        f"Of the {len(systems)} systems in SEN's tables {len(parity)} train here, {len(equal)} of "
        'them equal to their official code'
    ) in ' '.join((ROOT / 'README.md').read_text(encoding='utf-8').split())


@pytest.mark.parametrize(('dataset', 'method'), PRINTED)
def test_a_number_of_the_sen_readme_is_on_the_page_or_its_correction_is(dataset, method):
    result = result_of(dataset, method)
    printed = dict(zip(zoo.MEASURES, result['numbers'], strict=True)) | result.get('misprinted', {})
    assert list(printed.values()) == README[dataset][method]
    [row] = [row for row in section(dataset) if plain(row[0]) == method]
    assert row[4:9] == ['-' if n is None else f'{n:.2f}' for n in result['numbers']]
    for measure, value in result.get('misprinted', {}).items():
        assert re.search(rf'prints .*{measure} {value:.2f}', row[-1])


def test_the_misprints_of_the_sen_readme_are_corrected():
    # BEAT as in the papers of RDE and CONQUER, IRRA as in its own README.
    assert result_of('RSTPReid', 'BEAT')['numbers'][0] == 48.10
    assert result_of('ICFG-PEDES', 'IRRA')['numbers'] == [63.46, 80.24, 85.82, 38.05, 7.92]
    misprinted = {
        (dataset, row['method']): row['misprinted']
        for dataset, rows in PUBLISHED['results'].items()
        for row in rows
        if 'misprinted' in row
    }
    assert misprinted == {
        ('CUHK-PEDES', 'TIMAM'): {'R10': 79.27},
        ('RSTPReid', 'BEAT'): {'R1': 58.25},
        ('ICFG-PEDES', 'IRRA'): {'R5': 80.25, 'mAP': 38.06, 'mINP': 7.93},
    }


def test_every_method_of_the_readme_is_here_or_has_a_line_on_what_it_needs():
    missing = {row[0] for row in section('Methods that are not here')}
    configs = zoo.find_configs()
    for method in {method for _, method in PRINTED}:
        entry = PUBLISHED['methods'][method]
        here = any(zoo.configs_for(entry, dataset, configs) for dataset in zoo.SHORT_NAMES)
        assert here != (method in missing), method


def test_every_result_is_possible_and_has_a_known_method_and_source():
    seen = set()
    for dataset, rows in PUBLISHED['results'].items():
        for row in rows:
            assert row['method'] in PUBLISHED['methods']
            assert row['source'] in PUBLISHED['sources']
            ranks = [number for number in row['numbers'][:3] if number is not None]
            assert ranks == sorted(ranks)
            assert all(0 < number < 100 for number in row['numbers'] if number is not None)
            assert (dataset, row['method']) not in seen
            seen.add((dataset, row['method']))


def test_a_secondary_source_is_marked():
    [row] = [row for row in section('CUHK-PEDES') if row[0] == 'GA-DMS']
    assert row[9].endswith('†')
    [row] = [row for row in section('CUHK-PEDES') if plain(row[0]) == 'SEN']
    assert '†' not in row[9]


def test_a_metafile_and_the_published_results_do_not_contradict_each_other():
    configs, models = zoo.find_configs(), zoo.read_models()
    compared = 0
    for dataset, rows in PUBLISHED['results'].items():
        for row in rows:
            for path in zoo.configs_for(PUBLISHED['methods'][row['method']], dataset, configs):
                for paper in zoo.results_of(models.get(path, {}), 'paper'):
                    expected = dict(zip(zoo.MEASURES, row['numbers'], strict=True))
                    found = {name: paper['Metrics'].get(name) for name in expected}
                    shared = [
                        name for name in expected if None not in (expected[name], found[name])
                    ]
                    assert [found[n] for n in shared] == [expected[n] for n in shared], path
                    compared += 1
    assert compared >= 6


def test_a_measured_number_is_shown_beside_the_published_one():
    configs = ['configs/sen/sen_vitb_cuhk.py']

    def line_of_sen(models):
        lines = zoo.dataset_table('CUHK-PEDES', PUBLISHED, configs, models)
        [line] = [line for line in lines if line.startswith('| [SEN](')]
        return line

    assert '| not run |' in line_of_sen({})
    metrics = dict(R1=74.321, R5=90.0, R10=94.0, mAP=67.0, mINP=51.0)
    run = dict(Source='here', Dataset='CUHK-PEDES', Metrics=metrics, Note='val')
    models = {configs[0]: dict(Config=configs[0], Results=[run])}
    assert '| 74.32 |' in line_of_sen(models)
    [line] = zoo.config_table(configs, models)[2:]
    assert line.endswith('| CUHK-PEDES | here | 74.32 | 90.00 | 94.00 | 67.00 | 51.00 | val |')
