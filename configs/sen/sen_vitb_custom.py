# Your own data: copy this file beside it under another name and change the values below. The folder
# data_root holds annotations.csv (or annotations.json) and the images that it names:
#
#     image,caption,identity,split
#     shots/0001.jpg,"A man in a red coat, with a bag.",alice,train
#
# `python tools/check_dataset.py data/my_persons` finds what is wrong with it before you train;
# `python tools/browse_dataset.py configs/sen/sen_vitb_custom.py` shows what the model will see.
_base_ = './sen_vitb_cuhk.py'
dataset_type = 'CaptionedImages'
data_root = 'data/my_persons'
# Identities of the training split; training with another number stops and names the right one.
num_classes = 100
# CLIP reads 77 tokens, about 55 words; for longer captions uncomment this line.
# context_length = 168
# Without images of split val, select the checkpoint on test, and say so where you report it:
# val_dataloader = dict(dataset=dict(split='test'))
# Few persons: smaller batches give more steps in an epoch.
# batch_size = 32
