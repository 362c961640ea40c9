"""Installs the toolbox: ``pip install -e .``; the pins and their reasons stand here alone."""

from pathlib import Path

from setuptools import find_packages, setup

version = Path('sen_toolbox/__init__.py').read_text().split("__version__ = '")[1].split("'")[0]

setup(
    name='sen-toolbox',
    version=version,
    description='Text-to-image person retrieval: SEN, baselines and search',
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',  # 3.10 gets no security fixes since October 2026
    packages=find_packages(include=['sen_toolbox', 'sen_toolbox.*']),
    package_data={
        'sen_toolbox.inference': ['models/*.safetensors'],
        'sen_toolbox.models': ['architectures/*.json', 'towers/*.safetensors'],
        'sen_toolbox.search': ['web/static/*'],
        'sen_toolbox.text': ['*.npz'],
    },
    install_requires=[
        # 2.8 is the oldest tried that exports every method to ONNX and compiles a block once for
        # all lengths; 2.6 does neither. The newest tried: 2.14.
        'torch>=2.8',
        'torchvision>=0.23',  # the release that belongs to torch 2.8
        'mmengine>=0.10.7',
        'mmcv-lite>=2.2',  # mmcv proper does not build against this torch
        'open_clip_torch>=3.3',
        'numpy',
        'tokenizers>=0.15',  # the oldest tried
        'ftfy>=6',
        'timm>=1.0.21',  # the first that builds models without memory for their weights
        'transformers>=5.0',  # BERT; 5.0 and 5.24 tried
        'nltk>=3.9',  # 3.9 reads the tagger from JSON; older ones unpickle it
        'prettytable>=3.0',
        'addict>=2.4',
        'matplotlib',
        'opencv-python>=4,<5',  # 5.0 dropped the people detector; mmengine pulls in the newest
        'safetensors>=0.4',
        'faiss-cpu>=1.9',  # the first that loads beside numpy 2
        'filelock>=3.12',
        'rich>=13',
        'tensorboard>=2.14',
        'tqdm',
        'PyYAML',
        'pillow>=10.1',  # the first with a scalable default font
        'simplejpeg>=1.7.6',  # 1.7.0 does not load beside numpy 2
    ],
    extras_require={
        # A gallery that outgrows one machine; milvus-lite is its form inside a process.
        'milvus': ['pymilvus>=2.6', 'milvus-lite>=3'],
        # The export of models, and running them without torch.
        'onnx': ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.3'],
        'dev': [
            'pytest>=8',
            'pytest-xdist>=3.6',
            'ruff>=0.8',
            'pymilvus>=2.6',
            'milvus-lite>=3',
            'onnx>=1.17',
            'onnxruntime>=1.20',
            'onnxscript>=0.3',
            'selenium>=4.20',  # drives Chromium in the test of the web page
        ],
    },
    entry_points={'console_scripts': ['sen-search=sen_toolbox.search.cli:main']},
)
