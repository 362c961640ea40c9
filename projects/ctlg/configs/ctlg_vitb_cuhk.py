_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.ctlg'])
batch_size = 256  # of all four GPUs of the release
max_epochs = 70
context_length = 64
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
model = dict(
    data_preprocessor=dict(  # ImageNet's, though the ViT was trained with 0.5
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder',
        image=dict(type='TimmViT', name='vit_base_patch16_384', image_size='$image_size', stride=12,
                   pretrained='data/jx_vit_base_p16_384-83fb41ba.pth'),  # timm's first weights of it
        text=dict(type='BERT', context_length='$context_length', dropout=0.1, pooled='pooler',
                  pretrained='data/bert-base-uncased/model.safetensors')),
    heads=dict(infonce=dict(
        type='MatchingHead', loss=dict(type='InfoNCELoss', temperature=0.005, positives='pair'))),
    loss_weights=dict(infonce=1.0))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_image = [*_start, dict(type='PadCrop', padding='$crop_padding'), dict(type='RandomFlip', prob=0.5)]
_end = [dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]
train_dataloader = dict(dataset=dict(pipeline=[
    *_image, dict(type='MixWithAnother', steps=_image, prob=0.5),
    dict(type='VaryCaption', synonyms=dict(type='WordNet'), prob=0.5, share=0.2), *_end]))
val_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
test_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
param_scheduler = [  # (e + 1) / 10 in the first ten epochs
    dict(type='LinearLR', start_factor=0.1, end=10), dict(type='MultiStepLR', milestones=[20, 40, 60])]
optim_wrapper = dict(optimizer=dict(lr=1e-4, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=[]))
