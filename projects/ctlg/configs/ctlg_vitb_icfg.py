_base_ = './ctlg_vitb_cuhk.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
num_classes = 3102
val_dataloader = dict(dataset=dict(split='test'))  # it has no validation split
