# Stage I: the instance loss; the ResNet stays as it is.
_base_ = './_base_/dual_path.py'
max_epochs = 150  # of the release's 180, as stage II begins with epoch 150
model = dict(
    backbone=dict(
        image=dict(
            trains_trunk=False, trunk_momentum=0.0, pretrained='data/resnet50-0676ba61.pth'),
        text=dict(word_vectors='data/CUHK-PEDES/known_words.npy')))
param_scheduler = []  # a constant rate
