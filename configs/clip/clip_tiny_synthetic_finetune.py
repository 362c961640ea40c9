# InfoNCE on the people that the other methods train on: the floor of their table.
_base_ = './clip_tiny_synthetic.py'
data_root = 'data/synthetic'
batch_size = 64
crop_padding = 0
max_epochs = 7
pretrained = 'work_dirs/demo/clip/epoch_10.pth'
train_dataloader = dict(dataset=dict(seed=0))
val_dataloader = dict(dataset=dict(seed=0))
test_dataloader = dict(dataset=dict(seed=0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=3e-4))
