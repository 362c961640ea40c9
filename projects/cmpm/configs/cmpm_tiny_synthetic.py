_base_ = './cmpm_r50_cuhk.py'
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic'
num_classes = 1500
batch_size = 64
num_workers = 1
pin_memory = False  # made for a CPU
max_epochs = 7
image_size = (64, 32)
context_length = 56
model = dict(
    backbone=dict(
        depth=10,
        embed_dim=128,
        word_dim=128,
        hidden_dim=128,
        dropout=0.0,
        pretrained='work_dirs/cmpm_tiny_synthetic_pretraining/epoch_12.pth'))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
]
# Decay would move the words that a batch lacks.
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0))
