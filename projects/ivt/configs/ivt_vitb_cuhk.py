_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.ivt'])
batch_size = 28  # on each of four GPUs in the release
context_length = 128
max_epochs = 120
word_level = 'phrases'  # the release has attributes of its own here
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
model = dict(
    data_preprocessor=dict(
        type='NoisePreprocessor', mean=[0.5] * 3, std=[0.5] * 3, erasing_prob=0.5, also=['views']),
    backbone=dict(
        _delete_=True, type='SharedTransformer', token_dropout=0.2,
        image=dict(type='TypedViT', name='vit_base_patch16_224', image_size='$image_size', stride=12,
                   drop_path=0.1, pretrained='data/jx_vit_base_p16_224-80ecf9dd.pth'),
        text=dict(type='BorrowingBERT', context_length='$context_length', dropout=0.1,
                  pretrained='data/bert-base-uncased/model.safetensors')),
    heads=dict(cmpm=dict(type='ViewsAndLevelsHead', loss=dict(type='CMPMLoss', epsilon=1e-8))),
    loss_weights=dict(cmpm=1.0))
_load = dict(type='LoadImage')
_augment = [dict(type='PadCrop', padding='$crop_padding'), dict(type='RandomFlip', prob=0.5)]
_words = [dict(type='Tokenize', tokenizer='$tokenizer')]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='IdentityGroupSampler', batch_size='$batch_size', num_instances=4, vary_group_size=False),
    dataset=dict(pipeline=[
        _load, dict(type='ResizeImage', size='$image_size', filter='bicubic'),
        dict(type='MakeViews', views=[_augment, _augment]), *_augment, *_words,
        dict(type='TextLevels', tokenizer='$tokenizer', words='$word_level'),
        dict(type='PackPair', per_image=['views'], per_caption=['further_tokens'])]))
param_scheduler = [dict(
    type='FlooredCosineLR', start_lr=5e-5, warm_up=5, final_lr=1e-5, epochs='$max_epochs')]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(rules=[dict(pattern=r'bias$', lr_mult=2)]))
