_base_ = '../../../configs/_base_/models/ranked_parts.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.beat'])
max_epochs = 80
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
_file = 'data/bert-base-uncased/model.safetensors'
_bert = dict(context_length='$context_length', frozen=True, dropout=0.1, pretrained=_file)
model = dict(
    backbone=dict(
        joint=False, image=dict(last_stride=1),
        text=dict(type='RecurrentBERT', bert=_bert, hidden_dim=2048, input_dropout=0.3, padding=3)),
    heads=dict(parts=dict(
        type='ProjectedRankingHead', projections=4, bottleneck=8,
        level_weights=dict(whole=1.0, local=0.5, non_local=0.5),
        neck=dict(type='FirstWordParts', stage='layer4', parts=6, width=1024, non_local_width=512))))
val_evaluator = dict(candidates=100)  # of each caption by the sum, in the order of the maxima
test_evaluator = dict(candidates=100)  # None for all, as the release
default_hooks = dict(checkpoint=dict(save_best='scored/t2i/R1'))
param_scheduler = [dict(type='MultiStepLR', milestones=[20, 30, 50], gamma=0.1)]
