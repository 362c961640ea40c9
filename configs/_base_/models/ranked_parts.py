# Parts of a ResNet's map and of words, ranked by drawn negatives with a second caption of the same
# person. A method adds its text encoder, and the type, levels and neck of its head.
_base_ = ['./clip.py', '../datasets/pedes.py', '../schedules/cosine_60e.py', '../default_runtime.py']
batch_size = 64
context_length = 100
model = dict(
    data_preprocessor=dict(mean=[0.5] * 3, std=[0.5] * 3, erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder',
        image=dict(type='ResNet', depth=50, image_size='$image_size',
                   pretrained='data/resnet50-0676ba61.pth')),  # torchvision's IMAGENET1K_V1
    global_score_weight=0.0,
    heads=dict(parts=dict(
        num_classes='$num_classes',
        ranking=dict(type='CompoundRankingLoss', margin=0.2, second_weight=0.1))),
    loss_weights=dict(parts=1.0))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_words = [dict(type='Tokenize', tokenizer='$tokenizer')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_start, dict(type='RandomFlip', prob=0.5), *_words, dict(type='SecondCaption', tokenizer='$tokenizer'),
    dict(type='PackPair', per_caption=['second_tokens'])]))
val_dataloader = dict(dataset=dict(pipeline=[*_start, *_words, dict(type='PackPair')]))
test_dataloader = dict(dataset=dict(pipeline=[*_start, *_words, dict(type='PackPair')]))
_rules = [dict(pattern=r'^backbone\.image\.', lr_mult=0.1)]
optim_wrapper = dict(optimizer=dict(lr=1e-3, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=_rules))
custom_hooks = [*_base_.custom_hooks, dict(type='SwitchHook', target='heads.parts.ranking.adaptive', value=True, epoch=5)]
