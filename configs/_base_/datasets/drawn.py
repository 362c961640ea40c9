# The drawn people, and sizes that train on them within minutes on a CPU. A config lists this file
# after its method's, whose values these replace (no two bases of MMEngine may have the same key):
#
#     _base_ = ['./sen_vitb_cuhk.py', '../_base_/datasets/drawn.py']
#     _base_.update(_base_.pop('drawn'))
drawn = dict(
    dataset_type='SyntheticPedes',
    data_root='data/synthetic',
    num_classes=1500,
    batch_size=64,
    num_workers=1,
    pin_memory=False,  # made for a CPU
    crop_padding=0,
    image_size=(96, 48),
    context_length=56,
    clip_arch='tiny-8',
    pretrained='shipped')  # made by configs/clip/clip_tiny_world.py
