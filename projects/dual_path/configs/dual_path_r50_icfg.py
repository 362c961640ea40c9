_base_ = './dual_path_r50_cuhk.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
vocab_file = 'data/ICFG-PEDES/known_words.json'
num_classes = 3102
val_dataloader = dict(dataset=dict(split='test'))  # ICFG-PEDES has no val split
load_from = 'work_dirs/dual_path_r50_icfg_stage1/epoch_150.pth'
