"""What captions call colours, garments and things: of several names each one is drawn."""

COLOUR_WORDS = {
    'grey': ('grey', 'gray'),
    'navy': ('navy blue', 'dark blue', 'navy'),
    'light blue': ('light blue', 'light blue', 'pale blue'),
    'maroon': ('maroon', 'dark red', 'burgundy'),
    'beige': ('beige', 'beige', 'tan', 'khaki'),
    'dark green': ('dark green', 'dark green', 'olive green'),
    'purple': ('purple', 'purple', 'violet'),
}
HAIR_COLOUR_WORDS = {'blond': ('blond', 'blonde'), 'red': ('red', 'red', 'reddish')}
TOP_WORDS = {
    't-shirt': ('t-shirt', 't-shirt', 'tee shirt', 'shirt'),
    'shirt': ('shirt', 'shirt', 'button-up shirt', 'collared shirt'),
    'sweater': ('sweater', 'sweater', 'pullover', 'jumper'),
    'hoodie': ('hoodie', 'hoodie', 'hooded sweatshirt'),
    'jacket': ('jacket', 'jacket', 'jacket', 'short coat'),
    'coat': ('coat', 'coat', 'long coat', 'overcoat', 'long jacket'),
    'vest': ('vest', 'vest', 'sleeveless jacket'),
    'tank top': ('tank top', 'tank top', 'sleeveless top', 'sleeveless shirt'),
    'suit': ('suit', 'suit', 'business suit'),
    'dress': ('dress',),
}
BOTTOM_WORDS = {
    'jeans': ('jeans', 'jeans', 'jeans', 'denim pants', 'denim jeans'),
    'trousers': ('pants', 'pants', 'trousers', 'slacks'),
    'sweatpants': ('sweatpants', 'sweatpants', 'track pants', 'jogging pants'),
    'leggings': ('leggings', 'leggings', 'tight pants'),
    'shorts': ('shorts',),
    'skirt': ('skirt', 'skirt', 'knee-length skirt'),
    'long skirt': ('long skirt',),
    'tights': ('tights', 'stockings'),
}
SHOE_WORDS = {
    'sneakers': ('sneakers', 'sneakers', 'shoes', 'trainers', 'running shoes', 'tennis shoes'),
    'leather shoes': ('shoes', 'leather shoes', 'dress shoes'),
    'boots': ('boots',),
    'sandals': ('sandals',),
    'flats': ('flats', 'flat shoes', 'shoes'),
    'high heels': ('high heels', 'heels'),
}
BAG_WORDS = {
    'backpack': ('backpack', 'backpack', 'rucksack'),
    'shoulder bag': ('shoulder bag', 'messenger bag', 'bag'),
    'handbag': ('handbag', 'purse', 'handbag'),
    'suitcase': ('suitcase', 'rolling suitcase'),
}
HAT_WORDS = {
    'cap': ('cap', 'baseball cap'),
    'beanie': ('beanie', 'knit hat'),
    'sun hat': ('sun hat', 'wide-brimmed hat'),
}
CARRIED_WORDS = {
    'phone': ('a phone', 'a cell phone', 'a mobile phone'),
    'papers': ('some papers', 'a sheet of paper', 'a white paper'),
    'cup': ('a cup', 'a paper cup', 'a drink'),
}
NOUNS = {
    'man': ('man', 'man', 'man', 'male', 'guy', 'male pedestrian', 'gentleman'),
    'woman': ('woman', 'woman', 'woman', 'female', 'lady', 'female pedestrian', 'girl'),
}
