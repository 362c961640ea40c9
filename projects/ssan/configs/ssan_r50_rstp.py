_base_ = './ssan_r50_cuhk.py'
dataset_type = 'RSTPReid'
data_root = 'data/RSTPReid'
num_classes = 3701
tokenizer = dict(vocab_file='data/RSTPReid/words_ssan.json')
