# What both stages share: pictures, words and places, the two paths, factors of the rate.
_base_ = [
    '../../../../configs/_base_/models/clip.py', '../../../../configs/_base_/datasets/pedes.py',
    '../../../../configs/_base_/schedules/cosine_60e.py',
    '../../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.dual_path'])
image_size = (224, 224)
context_length = 56
embed_dim = 2048
batch_size = 32
vocab_file = 'data/CUHK-PEDES/known_words.json'  # tools/make_vocabulary.py --known makes it
tokenizer = dict(
    _delete_=True, type='VocabularyTokenizer', context_length='$context_length',
    vocab_file='$vocab_file', lower_case=False, deleted='', separators='-.,()')
_crop = dict(
    type='RandomResizedCrop', size='$image_size', scale=(0.8, 1.0), ratio=(3 / 4, 4 / 3),
    interpolation='bicubic')
train_dataloader = dict(
    sampler=dict(_delete_=True, type='ImageOnceSampler', batch_size='$batch_size'),
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size=(256, 256)),
            dict(type='TorchvisionOps', ops=[_crop]),
            dict(type='RandomFlip', prob=0.5),
            dict(type='DrawCaption'),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(type='ShiftWords'),
            dict(type='PackPair'),
        ]))
model = dict(
    data_preprocessor=dict(  # as torchvision's weights expect
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder',
        image=dict(type='ResNetPath', image_size='$image_size', embed_dim='$embed_dim'),
        text=dict(type='TextCNN', tokenizer='$tokenizer', embed_dim='$embed_dim')),
    heads=dict(instance=dict(type='InstanceHead', num_classes='$num_classes')),
    loss_weights=dict(instance=1.0))
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4,
        fused=True),
    paramwise_cfg=dict(rules=[
        dict(pattern='', lr_mult=0.1),
        dict(pattern=r'_norm\.weight$', lr_mult=0.2),
        dict(pattern=r'word_(embedding\.weight|bias)$', lr_mult=0.001),
        dict(pattern=r'classifier\.weight$', lr_mult=0.01),
        dict(pattern=r'classifier\.bias$', lr_mult=0.02),
    ]))
