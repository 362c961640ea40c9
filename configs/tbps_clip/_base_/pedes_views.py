# The release's images and captions: augmented, with three further views of each image.
_base_ = '../../_base_/datasets/pedes.py'
batch_size = 80  # on each of four GPUs
_choice = dict(type='RandomChoice', transforms=[
    dict(type='ColorJitter', brightness=0.1, contrast=0.1, saturation=0.1),
    dict(type='RandomRotation', degrees=15),
    dict(type='RandomResizedCrop', size='$image_size', scale=(0.9, 1.0)),
    dict(type='RandomGrayscale', p=0.1),
    dict(type='RandomHorizontalFlip', p=0.5),
    dict(type='RandomErasing', p=0.5, scale=(0.1, 0.2))])
_augment = [
    dict(type='ResizeImage', size='$image_size'),
    dict(type='TorchvisionOps', ops=[_choice, _choice])]
_simclr = [dict(type='TorchvisionOps', ops=[
    dict(type='RandomResizedCrop', size='$image_size', scale=(0.2, 1.0)),
    dict(type='RandomApply', p=0.8, transforms=[
        dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)]),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='RandomApply', p=0.5, transforms=[
        dict(type='GaussianBlur', kernel_size=13, sigma=(0.1, 2.0))]),
    dict(type='RandomHorizontalFlip', p=0.5)])]
_test_pipeline = [
    dict(type='LoadImage'),
    dict(type='TorchvisionOps', ops=[
        dict(type='Resize', size='$image_size', interpolation='bicubic')]),
    dict(type='CleanCaption'),
    dict(type='Tokenize', tokenizer='$tokenizer'),
    dict(type='PackPair'),
]
train_dataloader = dict(
    drop_last=True,
    dataset=dict(pipeline=[
        dict(type='LoadImage'),
        dict(type='MakeViews', views=[_augment, _simclr, _simclr]),
        *_augment,
        dict(type='BackTranslate', file=None, prob=0.1),
        dict(type='CleanCaption'),
        dict(type='DeleteWords', prob=0.05),
        dict(type='Tokenize', tokenizer='$tokenizer'),
        dict(type='PackPair', extra=['views']),
    ]))
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
