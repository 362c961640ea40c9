_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint', 'projects.ssan'])
batch_size = 64
context_length = 100
tokenizer = dict(
    _delete_=True, type='VocabularyTokenizer', context_length='$context_length',
    vocab_file='data/CUHK-PEDES/words_ssan.json',  # tools/make_vocabulary.py makes it
    lower_case=False, counting=dict(lower_case=True, least_count=2))
model = dict(
    data_preprocessor=dict(mean=[0.5] * 3, std=[0.5] * 3, erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder',
        image=dict(type='ResNet', depth=50, image_size='$image_size',
                   pretrained='data/resnet50-0676ba61.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='TwofoldTextEncoder', tokenizer='$tokenizer', word_dim=512,
                  hidden_dim=2048, average_directions=True, bias=False, input_dropout=0.3)),
    global_score_weight=0.0,
    heads=dict(parts=dict(
        type='PartRankingHead', num_classes='$num_classes',
        level_weights=dict(whole=1.0, local=0.5, non_local=0.5),
        neck=dict(type='AlignedParts', stage='layer4', parts=6, width=1024, non_local_width=512),
        ranking=dict(type='CompoundRankingLoss', margin=0.2, second_weight=0.1))),
    loss_weights=dict(parts=1.0))
_image = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_words = [dict(type='Tokenize', tokenizer='$tokenizer')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_image, dict(type='RandomFlip', prob=0.5), *_words, dict(type='SecondCaption', tokenizer='$tokenizer'),
    dict(type='PackPair', per_caption=['second_tokens'])]))
val_dataloader = dict(dataset=dict(pipeline=[*_image, *_words, dict(type='PackPair')]))
test_dataloader = dict(dataset=dict(pipeline=[*_image, *_words, dict(type='PackPair')]))
param_scheduler = [dict(type='MultiStepLR', milestones=[20, 40], gamma=0.1)]
_rules = [dict(pattern=r'^backbone\.image\.', lr_mult=0.1)]
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=_rules))
custom_hooks = [*_base_.custom_hooks, dict(
    type='SwitchHook', target='heads.parts.ranking.adaptive', value=True, epoch=5)]
