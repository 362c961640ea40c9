_base_ = '../../../configs/clip/clip_tiny_synthetic.py'
custom_imports = dict(
    imports=['sen_toolbox.checkpoint.registration', 'projects.example_loss.example_loss']
)
data_root = 'data/synthetic_few'
_few = dict(num_ids=dict(train=24, val=8, test=8))  # to see it run; drawn at the first start
num_classes = 24
num_workers = 0
batch_size = 32
max_epochs = 2
model = dict(
    heads=dict(_delete_=True, sigmoid=dict(type='MatchingHead', loss=dict(type='PairSigmoidLoss'))),
    loss_weights=dict(_delete_=True, sigmoid=1.0),
)
train_dataloader = dict(dataset=_few)
val_dataloader = dict(dataset=_few)
test_dataloader = dict(dataset=_few)
param_scheduler = [
    dict(type='CosineAnnealingLR', end='$max_epochs', convert_to_iter_based=True),
]
