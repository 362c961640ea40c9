# A ResNet and a BERT that start at random and train on a CPU; used as datasets/drawn.py is. The
# BERT has room for all ids of the tokenizer.
#
#     _resnet, _bert = _base_.pop('small_resnet'), _base_.pop('small_bert')
small_resnet = dict(
    depth=dict(_delete_=True, block='basic', blocks=(1, 1, 1, 1), widths=(32, 64, 128, 128)),
    pretrained=None)
small_bert = dict(
    config=dict(
        vocab_size=50_000, hidden_size=128, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=256, max_position_embeddings=64, initializer_range=0.2),
    dropout=0.0, pretrained=None)
