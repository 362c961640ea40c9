_base_ = './cmpm_r50_cuhk.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
vocab_file = 'data/ICFG-PEDES/frequent_words.json'
num_classes = 3102
val_dataloader = dict(dataset=dict(split='test'))  # ICFG-PEDES has no val split
