"""What codes cost in a file: all alike, or fewer bits for those that many words have.

    fixed    one of U units takes ceil(log2 U) bits: none where there is one
    Huffman  a unit that a share p of the words has takes about -log2 p bits (zlib's deflate)
"""

import zlib

import numpy as np

from see_min.errors import InputError

MOST = 256  # units whose codes deflate may shorten: it codes bytes
UNUSED = 99.0  # bits of a unit that no word has


def code_bits(count):
    """ceil(log2 count): the bits of a code that names one of `count` units.

    >>> [code_bits(count) for count in (1, 2, 256, 257)]
    [0, 1, 8, 9]
    """
    return max(int(count) - 1, 0).bit_length()


def code_lengths(codes, units):
    """-log2 of the share of the codes (N,) that each unit has, (U,).

    >>> code_lengths(np.array([0, 0, 1, 2]), 4).tolist()
    [1.0, 2.0, 2.0, 99.0]
    """
    count = np.bincount(codes, minlength=units)  # (U,)
    return np.where(count, np.log2(max(1, len(codes)) / np.maximum(count, 1)), UNUSED)


def pack_bits(numbers, bits):
    """Whole numbers below 2^bits, side by side in bytes.

    >>> pack_bits([1, 2, 3], 2), unpack_bits(pack_bits([1, 2, 3], 2), 2, 3)
    (array([108], dtype=uint8), array([1, 2, 3]))
    """
    numbers = np.asarray(numbers, dtype=np.int64).reshape(-1)  # (N,)
    if bits == 8:
        return numbers.astype(np.uint8)
    digits = numbers[:, None] >> np.arange(bits)[::-1] & 1  # (N, b)
    return np.packbits(digits.astype(np.uint8).reshape(-1))


def unpack_bits(data, bits, count):
    """The numbers (N,) of `pack_bits`; InputError for another number of bytes."""
    if len(data) != -(-bits * count // 8):
        raise InputError(f"codes: expected {-(-bits * count // 8)} bytes, got {len(data)}")
    if bits == 8:
        return data.astype(np.int64)
    digits = np.unpackbits(data, count=bits * count).reshape(count, bits)  # (N, b)
    return digits.astype(np.int64) @ (1 << np.arange(bits)[::-1])  # (N,)


def pack_codes(codes, units):
    """Codes (...) of one slot as bytes: Huffman's where they are fewer than those of fixed length.

    Huffman codes need a table per 32,768 codes, the same for all terms: units by falling frequency.

    >>> codes = np.repeat([0, 1], [9990, 10])  # 10,000 bits either way, and 80,000 fixed ones
    >>> len(pack_codes(codes, 2)), 1250 < len(pack_codes(codes, 256)) < 1300
    (1250, True)
    """
    codes = np.asarray(codes).reshape(-1)  # (N,)
    fixed = pack_bits(codes, code_bits(units))
    if units > MOST:
        return fixed
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    short = deflate.compress(codes.astype(np.uint8).tobytes()) + deflate.flush()
    return fixed if len(fixed) <= len(short) else np.frombuffer(short, dtype=np.uint8)


def bits_per_code(codes, units):
    """Bits that a code (N, k) takes in a file on average, units numbered by falling frequency.

    >>> bits_per_code(np.repeat([[1], [0]], [9990, 10], axis=0), 256) < 1.1
    True
    """
    places = [np.argsort(np.argsort(-np.bincount(one, minlength=units), kind="stable"))
              for one in codes.T]  # (U,) each
    sorted_codes = np.stack([place[one] for place, one in zip(places, codes.T)], axis=1)  # (N, k)
    return 8 * len(pack_codes(sorted_codes, units)) / codes.size


def unpack_codes(data, units, count):
    """The codes (N,) of `pack_codes`.

    Raises InputError if the bytes hold another number of them, zlib.error if they are no codes.
    """
    bits = code_bits(units)
    if units > MOST or len(data) >= -(-bits * count // 8):
        return unpack_bits(data, bits, count)
    inflate = zlib.decompressobj(-15)
    found = inflate.decompress(np.asarray(data).tobytes(), count + 1)
    if len(found) != count or not inflate.eof:
        raise InputError(f"codes: expected {count}, got {len(found)} or more")
    return np.frombuffer(found, dtype=np.uint8).astype(np.int64)
