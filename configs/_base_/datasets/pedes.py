# Any data set of pedestrian crops with captions; CUHK-PEDES unless a config says otherwise.
dataset_type = 'CUHKPEDES'
data_root = 'data/CUHK-PEDES'
num_classes = 11003
batch_size = 128
num_workers = 8
pin_memory = True
crop_padding = 10
# A folder on a local disk keeps the images decoded and resized: 5 GB for CUHK-PEDES at 384 x 128.
image_cache = None

_test_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeImage', size='$image_size'),
    dict(type='Tokenize', tokenizer='$tokenizer'),
    dict(type='PackPair'),
]
train_dataloader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    persistent_workers=True,  # saves their start in every epoch
    pin_memory='$pin_memory',
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='sen_toolbox.collate_pairs'),  # MMEngine looks this one up without scope
    dataset=dict(
        type='$dataset_type',
        data_root='$data_root',
        split='train',
        image_cache='$image_cache',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding='$crop_padding'),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(type='PackPair'),
        ]))
val_dataloader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    pin_memory='$pin_memory',
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='sen_toolbox.collate_pairs'),
    dataset=dict(
        type='$dataset_type',
        data_root='$data_root',
        split='val',
        image_cache='$image_cache',
        pipeline=_test_pipeline))
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], split='test'))
val_evaluator = dict(type='RetrievalMetric')
test_evaluator = dict(type='RetrievalMetric')
