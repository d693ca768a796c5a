# 1. Fewer bytes: 32 terms of 2 * 2 bits are 16 bytes per word instead of 20, and the leaves are a
#    fourth. The error is larger: MORE.
import see_min.toy.exercises  # noqa: F401  the checks are in the notebook


# 2. Two slots, as many bits as the largest number U - 1 has.
def code_bits(r, U):
    return r * 2 * (U - 1).bit_length()


check_2(code_bits)


# 3. They sum to 1, as the parts sum to x; a part that points away from x has a negative share.
def share_of_parts(x, parts):
    return np.array(parts) @ x / (x @ x)


check_3(share_of_parts)

# 4. Words whose row was mostly noise, as they are rare, can only win by what they share. The control
#    is the same word in the encoding with shuffled annotations: if it got as good there, it is luck
#    or the projection.
