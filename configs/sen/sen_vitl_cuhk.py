_base_ = './sen_vitb_cuhk.py'
image_size = (378, 126)  # 27 x 9 patches; 384 is not a multiple of 14
clip_arch = 'ViT-L-14-quickgelu'
