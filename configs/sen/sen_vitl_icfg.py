_base_ = './sen_vitb_cuhk.py'
dataset_type = 'ICFGPEDES'
data_root = 'data/ICFG-PEDES'
num_classes = 3102
val_dataloader = dict(dataset=dict(split='test'))  # ICFG-PEDES has no val split
image_size = (378, 126)  # 27 x 9 patches; 384 is not a multiple of 14
clip_arch = 'ViT-L-14-quickgelu'
