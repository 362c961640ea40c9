_base_ = './unipt_vitb_pretrain.py'
dataset_type = 'CUHKPEDES'
data_root = 'data/CUHK-PEDES'
num_classes = 11003
max_epochs = 60
_pretrained = 'work_dirs/unipt_vitb_pretrain/epoch_15.pth'
_parts = dict(depth=2, heads=6, head_width=512, mlp_width=512)
model = dict(
    backbone=dict(image=dict(pretrained=_pretrained), text=dict(pretrained=_pretrained)),
    heads=dict(_delete_=True, parts=dict(
        type='PairRankingHead', num_classes='$num_classes',
        ranking=dict(type='SemiHardRankingLoss', margin=0.2, crossed=True),
        neck=dict(type='MaximaAndParts', width=768, parts=6, part_width=512, decoder=_parts))),
    loss_weights=dict(_delete_=True, parts=1.0))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic'),
    dict(type='RandomFlip', prob=0.5), dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]))
param_scheduler = [dict(type='MultiStepLR', milestones=[19, 39, 49], gamma=0.1)]  # LGUR's
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Adam', lr=1e-4, betas=(0.9, 0.999), eps=1e-8, fused=True),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'^backbone\.text\.', lr_mult=0.1), dict(pattern=r'\.classifiers\.', lr_mult=10)]))
