# InfoNCE on the people that the other methods train on: the floor of their table.
_base_ = [
    './clip_tiny_synthetic.py', '../_base_/datasets/drawn.py', '../_base_/schedules/drawn_7e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_7e'))
model = dict(backbone=dict(pretrained='work_dirs/demo/clip/epoch_10.pth'))
train_dataloader = dict(dataset=dict(seed=0))
val_dataloader = dict(dataset=dict(seed=0))
test_dataloader = dict(dataset=dict(seed=0))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
