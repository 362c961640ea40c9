_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.nafs'])
batch_size = 64
context_length = 300  # a caption and two clauses of 100 tokens each
tokenizer = dict(
    _delete_=True, type='ClauseTokenizer', context_length='$context_length',
    tokenizer=dict(type='WordPieceTokenizer', vocab_file='data/bert-base-uncased/vocab.txt'))
model = dict(
    data_preprocessor=dict(  # as torchvision's weights expect
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=768, projection_norm=dict(),
        image=dict(type='StaircaseResNet', depth=50, image_size='$image_size', last_stride=1,
                   pretrained='data/resnet50-19c8e357.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='ClauseBERT', context_length='$context_length', dropout=0.1,
                  pretrained='data/bert-base-uncased/model.safetensors')),
    heads=dict(
        cmpm=dict(type='MatchingHead', loss=dict(type='CMPMLoss', epsilon=1e-8)),
        cmpc=dict(type='CMPCHead', num_classes='$num_classes'),
        local=dict(type='FullScaleHead', sharpness=20.0)),
    loss_weights=dict(cmpm=1.0, cmpc=1.0, local=0.1))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size')]
_end = [dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_start, dict(type='RandomFlip', prob=0.5), *_end]))
val_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
test_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
test_evaluator = dict(rerank=['visual_neighbours'])
default_hooks = dict(checkpoint=dict(save_best='scored/t2i/R1'))
param_scheduler = [  # 0.01 + 0.99 e / 10 in the first ten epochs
    dict(type='LinearLR', start_factor=0.01, end=11), dict(type='MultiStepLR', milestones=[20, 25, 35])]
optim_wrapper = dict(optimizer=dict(lr=1.1e-3, eps=1e-8, weight_decay=4e-5), paramwise_cfg=dict(rules=[
    dict(pattern='', decay_mult=0), dict(pattern=r'^backbone\.(image|text)\.', lr_mult=0.1),
    dict(pattern=r'^backbone\.image\.', decay_mult=1), dict(pattern=r'_projection\.norm\.bias$', lr_mult=0)]))
