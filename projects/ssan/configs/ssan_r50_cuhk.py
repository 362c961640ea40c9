_base_ = '../../../configs/_base_/models/ranked_parts.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.ssan'])
tokenizer = dict(
    _delete_=True, type='VocabularyTokenizer', context_length='$context_length',
    vocab_file='data/CUHK-PEDES/words_ssan.json',  # tools/make_vocabulary.py makes it
    lower_case=False, counting=dict(lower_case=True, least_count=2))
model = dict(
    backbone=dict(text=dict(
        type='TwofoldTextEncoder', tokenizer='$tokenizer', word_dim=512, hidden_dim=2048,
        average_directions=True, bias=False, input_dropout=0.3)),
    heads=dict(parts=dict(
        type='PartRankingHead', level_weights=dict(whole=1.0, local=0.5, non_local=0.5),
        neck=dict(type='AlignedParts', stage='layer4', parts=6, width=1024, non_local_width=512))))
param_scheduler = [dict(type='MultiStepLR', milestones=[20, 40], gamma=0.1)]
