_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint', 'projects.beat'])
batch_size = 64
context_length = 100
max_epochs = 80
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
_file = 'data/bert-base-uncased/model.safetensors'
_bert = dict(context_length='$context_length', frozen=True, dropout=0.1, pretrained=_file)
model = dict(
    data_preprocessor=dict(mean=[0.5] * 3, std=[0.5] * 3, erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', joint=False,
        image=dict(type='ResNet', depth=50, image_size='$image_size', last_stride=1,
                   pretrained='data/resnet50-0676ba61.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='RecurrentBERT', bert=_bert, hidden_dim=2048, input_dropout=0.3, padding=3)),
    global_score_weight=0.0,
    heads=dict(parts=dict(
        type='ProjectedRankingHead', num_classes='$num_classes', projections=4, bottleneck=8,
        level_weights=dict(whole=1.0, local=0.5, non_local=0.5),
        neck=dict(type='FirstWordParts', stage='layer4', parts=6, width=1024, non_local_width=512),
        ranking=dict(type='CompoundRankingLoss', margin=0.2, second_weight=0.1))),
    loss_weights=dict(parts=1.0))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_words = [dict(type='Tokenize', tokenizer='$tokenizer')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_start, dict(type='RandomFlip', prob=0.5), *_words, dict(type='SecondCaption', tokenizer='$tokenizer'),
    dict(type='PackPair', per_caption=['second_tokens'])]))
val_dataloader = dict(dataset=dict(pipeline=[*_start, *_words, dict(type='PackPair')]))
test_dataloader = dict(dataset=dict(pipeline=[*_start, *_words, dict(type='PackPair')]))
val_evaluator = dict(candidates=100)  # of each caption by the sum, in the order of the maxima
test_evaluator = dict(candidates=100)  # None for all, as the release
default_hooks = dict(checkpoint=dict(save_best='scored/t2i/R1'))
param_scheduler = [dict(type='MultiStepLR', milestones=[20, 30, 50], gamma=0.1)]
_rules = [dict(pattern=r'^backbone\.image\.', lr_mult=0.1)]
optim_wrapper = dict(optimizer=dict(lr=1e-3, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=_rules))
custom_hooks = [*_base_.custom_hooks, dict(type='SwitchHook', target='heads.parts.ranking.adaptive', value=True, epoch=5)]
