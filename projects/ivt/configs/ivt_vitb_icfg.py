_base_ = './ivt_vitb_cuhk.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
num_classes = 3102
word_level = 'pieces'
val_dataloader = dict(dataset=dict(split='test'))  # it has no validation split
