# data_root holds annotations.csv of LUPerson-T, as CaptionedImages reads it, each image its own identity.
_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.unipt'])
dataset_type = 'CaptionedImages'
data_root = 'data/LUPerson-T'
num_classes = 1_300_000
batch_size = 64  # on each of eight GPUs in the release
context_length = 100
max_epochs = 15
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
model = dict(
    data_preprocessor=dict(mean=[0.5] * 3, std=[0.5] * 3, erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', joint=False,
        image=dict(type='TimmViT', name='vit_base_patch16_224', image_size='$image_size',
                   align_corners=True, pretrained='data/jx_vit_base_p16_224-80ecf9dd.pth'),
        text=dict(type='BERT', context_length='$context_length', dropout=0.1, cuts_padding=False,
                  pretrained='data/bert-base-uncased/model.safetensors')),
    global_score_weight=0.0,
    heads=dict(
        words=dict(type='MaskedCaptionHead'),
        contrast=dict(type='NeckMatchingHead', neck=dict(type='ProjectedMaxima', width=768),
                      loss=dict(type='InfoNCELoss', temperature=1.0, positives='pair'))),
    loss_weights=dict(contrast=1.0, words=1.0))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_words = [dict(type='Tokenize', tokenizer='$tokenizer')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_start, dict(type='RandomFlip', prob=0.5), *_words,
    dict(type='MaskWholeWords', tokenizer='$tokenizer', share=0.15),
    dict(type='PackPair', per_caption=['masked_tokens', 'word_labels'])]))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=[*_start, *_words, dict(type='PackPair')]))
param_scheduler = [dict(type='LinearLR', start_factor=1e-6, end=1.5, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=1.5, end='$max_epochs', convert_to_iter_based=True)]
_rules = [dict(pattern=r'(bias|[Nn]orm\d?\.weight)$', decay_mult=0)]
optim_wrapper = dict(paramwise_cfg=dict(rules=_rules), optimizer=dict(
    type='AdamW', lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01))
