_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.lgur'])
batch_size = 64
context_length = 100
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
_file = 'data/bert-base-uncased/model.safetensors'
_bert = dict(context_length='$context_length', frozen=True, dropout=0.1, pretrained=_file)
model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', joint=False,
        image=dict(type='TimmViT', name='deit_small_patch16_224', image_size='$image_size',
                   num_blocks=11, final_norm=False, drop_path=0.1,
                   pretrained='data/deit_small_distilled_patch16_224-649709d9.pth'),
        text=dict(type='RecurrentBERT', bert=_bert, hidden_dim=384)),
    global_score_weight=0.0,
    heads=dict(parts=dict(
        type='DictionaryHead', num_classes='$num_classes',
        ranking=dict(type='SemiHardRankingLoss', margin=0.3, crossed=True),
        neck=dict(type='DictionaryParts', entries=400, parts=6, part_width=512,
                  rebuild=dict(depth=1, heads=6, head_width=64, mlp_width=768),
                  decoder=dict(depth=2, heads=6, head_width=512, mlp_width=512)))),
    loss_weights=dict(parts=1.0))
_start = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size', filter='bicubic')]
_end = [dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='PackPair')]
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=[
    *_start, dict(type='PadCrop', padding='$crop_padding'), dict(type='RandomFlip', prob=0.5), *_end]))
val_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
test_dataloader = dict(dataset=dict(pipeline=[*_start, *_end]))
param_scheduler = [dict(type='MultiStepLR', milestones=[19, 39, 49], gamma=0.1)]
optim_wrapper = dict(optimizer=dict(lr=1e-3, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=[
    dict(pattern=r'(^backbone\.image|\.neck)\.', lr_mult=0.1), dict(pattern=r'\.project\.', lr_mult=1)]))
