_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.tipcb'])
batch_size = 64
context_length = 64
max_epochs = 80
bert = 'data/bert-base-uncased/model.safetensors'  # of google-bert/bert-base-uncased
tokenizer = dict(
    _delete_=True, type='WordPieceTokenizer', context_length='$context_length',
    vocab_file='data/bert-base-uncased/vocab.txt')
model = dict(
    data_preprocessor=dict(  # as torchvision's weights expect
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', joint=False,
        image=dict(type='ResNet', depth=50, image_size='$image_size', last_stride=1,
                   pretrained='data/resnet50-0676ba61.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='BERT', context_length='$context_length', frozen=True, dropout=0.1,
                  cuts_padding=False, pretrained='$bert')),
    global_score_weight=0.0,
    heads=dict(levels=dict(
        type='LevelsHead', loss=dict(type='CMPMLoss', epsilon=1e-8),
        neck=dict(type='TextResNet', low_stage='layer3', high_stage='layer4', parts=6, blocks=3,
                  middle=512))),
    loss_weights=dict(levels=1.0))
_image = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_end = [dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]
train_dataloader = dict(dataset=dict(pipeline=[
    *_image, dict(type='PadCrop', padding='$crop_padding'), dict(type='RandomFlip', prob=0.5), *_end]))
val_dataloader = dict(dataset=dict(pipeline=[*_image, *_end]))
test_dataloader = dict(dataset=dict(pipeline=[*_image, *_end]))
param_scheduler = [  # (e + 1) / 10 in the first ten epochs
    dict(type='LinearLR', start_factor=0.1, end=10), dict(type='MultiStepLR', milestones=[50])]
optim_wrapper = dict(
    optimizer=dict(lr=3e-3, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=[]))
