_base_ = './sen_vitb_cuhk.py'
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic'
num_classes = 1500
num_workers = 1
pin_memory = False  # made for a CPU
crop_padding = 4
max_epochs = 3
image_size = (128, 64)
context_length = 56
model = dict(
    data_preprocessor=dict(erasing_prob=0.25),
    backbone=dict(arch='tiny', pretrained='work_dirs/clip_tiny_synthetic/epoch_12.pth'))
train_dataloader = dict(dataset=dict(tagger=dict(type='RuleTagger')))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
]
# The towers are trained and change little; the decoder starts from nothing and has three epochs,
# for which the release's epsilon of 1e-3 is too large.
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, eps=1e-8),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'bias$', lr_mult=2, decay_mult=0),
        dict(pattern=r'\.neck\.', lr_mult=50),
        dict(pattern=r'\.classifier\.', lr_mult=5),
    ]))
