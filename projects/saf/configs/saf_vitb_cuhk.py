_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.saf'])
batch_size = 64
image_size = (224, 224)
context_length = 100
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', joint=False,
        image=dict(type='TimmViT', name='vit_base_patch16_224', image_size='$image_size', dropout=0.1,
                   align_corners=True, pretrained='data/imagenet21k+imagenet2012_ViT-B_16.npz'),
        text=dict(type='BERT', context_length='$context_length', dropout=0.1,
                  pretrained='data/bert-base-uncased/model.safetensors')),
    global_score_weight=0.0,
    heads=dict(parts=dict(
        type='AlignedTokensHead', num_classes='$num_classes', diversity_weight=0.2,
        loss=dict(type='CMPMLoss', epsilon=1e-8), neck=dict(type='ClassTokenParts', parts=10))),
    loss_weights=dict(parts=1.0))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_end = [dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_start, dict(type='RandomFlip', prob=0.5), *_end]))
val_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
test_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
param_scheduler = [  # 0.01 + 0.99 e / 10 in the first ten epochs
    dict(type='LinearLR', start_factor=0.01, end=11), dict(type='MultiStepLR', milestones=[20, 25, 35])]
optim_wrapper = dict(optimizer=dict(lr=3e-4, eps=1e-8, weight_decay=4e-5), paramwise_cfg=dict(rules=[
    dict(pattern='', decay_mult=0), dict(pattern=r'^backbone\.', lr_mult=0.1),
    dict(pattern=r'^backbone\.image\.', decay_mult=1)]))
