"""ONNX files: damaged ones, and those of others with any description and any graph."""

import copy
import random
from pathlib import Path

import numpy as np
from onnx import TensorProto
from test_hostile_descriptions import HOSTILE_EXPORTS

from sen_toolbox.inference.onnx_encoder import OnnxEncoder

from .model_files import PICTURE, SENTENCES
from .mutations import altered, mangled
from .outcome import attempt, require
from .small_models import DIM, graph, onnx_description, onnx_file

OPERATORS = ['Cast', 'Cos', 'MatMul', 'Gather', 'Reshape', 'Loop', 'If', 'Scan', 'Expand', 'Tile',
             'ConstantOfShape', 'Evil', 'PyOp', 'Identity', 'RandomNormal']  # fmt: skip


class OnnxFiles:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        self._graph, self._description = graph(), onnx_description()
        self._bytes = onnx_file(graph(), self._description)
        self._open = {key: v for key, v in self._description.items() if key != 'sha256'}
        (samples / 'a.onnx').write_bytes(self._bytes)
        self._vectors = self._embed(samples / 'a.onnx')
        self.hostile = {'weights elsewhere': (self._elsewhere(), False)}
        for name, change in HOSTILE_EXPORTS.items():
            described = copy.deepcopy(self._open)
            described = change(described) or described
            self.hostile[name] = onnx_file(graph(), described), False

    def _elsewhere(self, location: str = 'secret.json') -> bytes:
        content = graph()
        tensor = content.graph.initializer[1]
        tensor.ClearField('float_data')
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = 'location', location
        return onnx_file(content, self._open)

    def mutant(self, rng: random.Random) -> tuple[bytes, bool]:
        """A file, and whether it is a damaged one of the valid model."""
        kind = rng.random()
        if kind < 0.35:
            content = mangled(rng, self._bytes)
            # Without its digest a file is one of others.
            return content, b'"sha256"' in content
        if kind < 0.7:
            return onnx_file(graph(), altered(rng, self._open)), False
        if kind < 0.75:
            places = ['secret.json', '../outside/secret.json', '/etc/passwd', '../a.onnx', '', '.']
            return self._elsewhere(rng.choice(places)), False
        return onnx_file(self._other_graph(rng), self._open), False

    def _other_graph(self, rng: random.Random) -> object:
        content = graph()
        for _ in range(rng.choice([1, 1, 2])):
            node = rng.choice(content.graph.node)
            kind = rng.randrange(6)
            if kind == 0:
                node.op_type = rng.choice(OPERATORS)
            elif kind == 1:
                node.input[0] = rng.choice(['images', 'ids', 'nothing', 'projection', ''])
            elif kind == 2:
                node.domain = rng.choice(['evil', 'com.microsoft', 'ai.onnx.contrib'])
            elif kind == 3:
                tensor = rng.choice(content.graph.initializer)
                tensor.dims[:] = rng.choice([[0], [1], [-1, 2], [2**40, 2**40], [9, 17], [10**9]])
            elif kind == 4:
                del content.graph.node[rng.randrange(len(content.graph.node))]
            else:
                for attribute in node.attribute:
                    attribute.i = rng.choice([0, -1, 2, 99, 2**62])
        return content

    def check(self, sample: tuple[bytes, bool], folder: Path) -> bool:
        content, is_damaged = sample
        path = folder / 'a.onnx'
        path.write_bytes(content)
        vectors, line = attempt(lambda: self._embed(path), [str(path)])
        if line is None:
            for found, count in zip(vectors, (1, 2), strict=True):
                require(found.shape[0] == count and np.isfinite(found).all(), f'{found.shape}')
            if is_damaged:
                require(vectors[0].shape == (1, DIM), 'wrong vectors')
                same = map(np.array_equal, vectors, self._vectors)
                require(all(same), 'wrong vectors')
        return line is not None

    def _embed(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        encoder = OnnxEncoder(path)
        pictures = encoder.embed_prepared(encoder.prepare(PICTURE)[None])
        return pictures, encoder.embed_text(SENTENCES)
