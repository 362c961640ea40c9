# Schedule, corruptions and optimiser of sen_tiny_synthetic.py, so that the two methods compare.
_base_ = './irra_vitb_cuhk.py'
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic'
num_classes = 1500
batch_size = 64
num_workers = 1
pin_memory = False  # made for a CPU
crop_padding = 0
max_epochs = 7
image_size = (128, 64)
context_length = 56
clip_arch = 'tiny'
pretrained = 'work_dirs/demo/clip/epoch_10.pth'  # of make demo
model = dict(
    data_preprocessor=dict(erasing_prob=0.0),
    heads=dict(mlm=dict(neck=dict(depth=2))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
]
optim_wrapper = dict(
    optimizer=dict(lr=3e-4, eps=1e-8, weight_decay=0),
    paramwise_cfg=dict(rules=[
        dict(pattern=r'bias$', lr_mult=2),
        dict(pattern=r'^heads\.', lr_mult=3),
    ]))
