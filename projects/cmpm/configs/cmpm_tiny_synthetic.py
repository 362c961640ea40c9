_base_ = './cmpm_r50_cuhk.py'
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic'
num_classes = 1500
batch_size = 128
num_workers = 1
pin_memory = False  # made for a CPU
max_epochs = 8
image_size = (128, 64)
context_length = 56
model = dict(
    backbone=dict(
        depth=10, embed_dim=128, word_dim=128, hidden_dim=128, dropout=0.0, pretrained=None))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
