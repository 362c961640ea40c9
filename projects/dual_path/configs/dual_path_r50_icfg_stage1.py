_base_ = './dual_path_r50_cuhk_stage1.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
vocab_file = 'data/ICFG-PEDES/known_words.json'
num_classes = 3102
val_dataloader = dict(dataset=dict(split='test'))  # ICFG-PEDES has no val split
model = dict(backbone=dict(text=dict(word_vectors='data/ICFG-PEDES/known_words.npy')))
