# A ResNet and a BERT as configs/clip/resnet_bert_tiny_world.py pretrains them; used as those of
# small_encoders.py are. Each stage of the ResNet is wider than the one before, so that it has the same
# weights with either stride of the last one.
_base_ = './small_encoders.py'
_world = 'work_dirs/resnet_bert_tiny_world/epoch_4.pth'
small_resnet = dict(depth=dict(widths=(32, 64, 96, 128)), pretrained=_world)
small_bert = dict(pretrained=_world)
