_base_ = '../../../configs/_base_/models/ranked_parts.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.manet'])
max_epochs = 70
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
_file = 'data/bert-base-uncased/model.safetensors'
_bert = dict(context_length='$context_length', frozen=True, dropout=0.1, pretrained=_file)
model = dict(
    backbone=dict(
        image=dict(last_stride=1),
        text=dict(type='RecurrentBERT', bert=_bert, hidden_dim=2048, cuts_padding=False)),
    heads=dict(parts=dict(
        type='SuppressionHead', level_weights=dict(whole=1.0, local=1.0),
        neck=dict(type='SuppressedImages', stage='layer4', parts=6, part_width=512, narrow=64,
                  relation=8, squeezed=256),
        kept=dict(type='HardestRankingLoss', margin=0.2))))
param_scheduler = [  # 0.01 + 0.99 e / 10 in the first ten epochs
    dict(type='LinearLR', start_factor=0.01, end=11), dict(type='MultiStepLR', milestones=[30, 50])]
