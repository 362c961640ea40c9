"""Ways to change a valid sample: its bytes, or a value in it."""

import random
from collections.abc import Callable, Sequence
from typing import Any

# Lengths, counts and offsets that a format may store.
NUMBERS = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
]


def mangled(rng: random.Random, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Bytes with one to three changes; never those that were given."""
    while True:
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            rng.choice(BYTE_CHANGES)(rng, changed, rng.choice([*others, content]))
        if bytes(changed) != content:
            return bytes(changed)


def _place(rng: random.Random, content: bytearray) -> int:
    # Headers are worth more than what follows.
    near = rng.choice([64, 512, 4096, len(content), len(content)])
    place = rng.randrange(max(1, min(len(content), near)))
    return place if rng.random() < 0.8 else max(0, len(content) - 1 - place)


def _flip(rng: random.Random, content: bytearray, other: bytes) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        if content:
            content[_place(rng, content)] ^= 1 << rng.randrange(8)


def _truncate(rng: random.Random, content: bytearray, other: bytes) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _cut(rng: random.Random, content: bytearray, other: bytes) -> None:
    place = _place(rng, content)
    del content[place : place + rng.choice([1, 2, 4, 16, 300])]


def _repeat(rng: random.Random, content: bytearray, other: bytes) -> None:
    place, size = _place(rng, content), rng.choice([1, 4, 50, 1000])
    content[place:place] = content[place : place + size] * rng.choice([1, 2, 30])


def _number(rng: random.Random, content: bytearray, other: bytes) -> None:
    size, place = rng.choice([1, 2, 4, 8]), _place(rng, content)
    value = rng.choice(NUMBERS) % 2 ** (8 * size)
    content[place : place + size] = value.to_bytes(size, rng.choice(['little', 'big']))


def _fill(rng: random.Random, content: bytearray, other: bytes) -> None:
    place, size = _place(rng, content), rng.choice([4, 32, 500])
    content[place : place + size] = bytes([rng.choice([0, 255, 32, rng.randrange(256)])]) * size


def _splice(rng: random.Random, content: bytearray, other: bytes) -> None:
    start, size = rng.randrange(len(other) + 1), rng.choice([8, 100, 5000])
    place = _place(rng, content)
    content[place : place + rng.choice([0, size])] = other[start : start + size]


def _swap(rng: random.Random, content: bytearray, other: bytes) -> None:
    first, second = sorted((_place(rng, content), _place(rng, content)))
    size = min(rng.choice([1, 8, 100]), second - first)
    part = content[first : first + size]
    content[first : first + size] = content[second : second + size]
    content[second : second + size] = part


BYTE_CHANGES: list[Callable[[random.Random, bytearray, bytes], None]] = [
    _flip, _flip, _flip, _truncate, _cut, _repeat, _number, _number, _fill, _splice, _swap,
]  # fmt: skip


def deep(levels: int, kind: type = list) -> Any:
    """Lists or dicts within one another."""
    value: Any = 0
    for _ in range(levels):
        value = [value] if kind is list else {'a': value}
    return value


COMMAND = {'type': 'os.system', 'command': 'touch harmed'}
# Values in the place of plain ones; those that JSON cannot hold are left out by whoever writes it.
STRANGE = [
    None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e308, 10**6, 10**9, 2**31, 2**63, -(2**63),
    10**40, float('nan'), float('inf'), '', ' ', 'x', '0', '-1', 'x' * 5000,
    'a\x1b[2J\nb', '\0', '\udce9', '\u202e', '%', 'victim.txt', '../outside/victim.txt',
    'secret.json', '/etc/passwd', 'evil', 'evil.registry', 'evil.X', 'os.system',
    'hf-hub:evil/model', 'local-dir:evil', '__import__',
    '{}', [], {}, [[]], [0], [0, 0], [-1, 5], [10**9, 10**9], ['x'], {'a': 1}, {'type': 'x'},
    COMMAND, {'_scope_': 'evil'}, {'type': 'VocabularyTokenizer', 'vocab_file': 'secret.json'},
    {'type': 'TextImageRetriever', '_scope_': 'evil'}, deep(50), deep(400), deep(50, dict),
]  # fmt: skip


def altered(rng: random.Random, value: Any, strange: Sequence[Any] = STRANGE) -> Any:
    """A copy of lists and dicts with one to three values changed, lost, added or exchanged."""
    holder = [_copied(value)]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(holder))
        parent, key = rng.choice(places)
        kind = rng.randrange(10)
        if kind < 6:
            parent[key] = _copied(rng.choice(strange))
        elif kind == 6 and parent is not holder:
            del parent[key]
        elif kind == 7:
            other, other_key = rng.choice(places)
            parent[key] = _copied(other[other_key])
        elif kind == 8 and isinstance(parent[key], dict):
            name = rng.choice(['', 'type', '_scope_', 'pretrained', 'more', 'x\ny', 'name'])
            parent[key][name] = _copied(rng.choice(strange))
        elif isinstance(parent[key], list) and parent[key]:
            parent[key] = parent[key] * rng.choice([2, 3]) + [rng.choice(strange)]
        else:
            parent[key] = [parent[key]]
    return holder[0]


def _copied(value: Any) -> Any:
    """Lists and dicts anew; copying what hostile objects are made of would run it."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _places(value: Any) -> Any:
    """Holder and key of every value within one, a few levels deep."""
    waiting = [(value, 0)]
    while waiting:
        found, level = waiting.pop()
        keys = found if isinstance(found, dict) else range(len(found))
        for key in keys:
            yield found, key
            if isinstance(found[key], dict | list) and level < 12:
                waiting.append((found[key], level + 1))
