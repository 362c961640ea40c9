_base_ = './ssan_r50_cuhk.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
num_classes = 3102
tokenizer = dict(vocab_file='data/ICFG-PEDES/words_ssan.json')
val_dataloader = dict(dataset=dict(split='test'))  # it has no validation split
