# Any data set of pedestrian crops with captions; CUHK-PEDES unless a config says otherwise.
dataset_type = 'CUHKPEDES'
data_root = 'data/CUHK-PEDES'
num_classes = 11003
batch_size = 128
num_workers = 8

_test_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeImage', size='$image_size'),
    dict(type='Tokenize', context_length='$context_length'),
    dict(type='PackPair'),
]
train_dataloader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    persistent_workers=True,  # others repeat their augmentations in every epoch
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='collate_pairs'),
    dataset=dict(
        type='$dataset_type',
        data_root='$data_root',
        split='train',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding=10),
            dict(type='Tokenize', context_length='$context_length'),
            dict(type='PackPair'),
        ]))
val_dataloader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='collate_pairs'),
    dataset=dict(
        type='$dataset_type', data_root='$data_root', split='val', pipeline=_test_pipeline))
test_dataloader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='collate_pairs'),
    dataset=dict(
        type='$dataset_type', data_root='$data_root', split='test', pipeline=_test_pipeline))
val_evaluator = dict(type='RetrievalMetric')
test_evaluator = dict(type='RetrievalMetric')
