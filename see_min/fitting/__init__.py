"""How leaves, bags and projection of a given matrix are found.

Read in this order: least_squares (one part after the other, solved exactly), starts (the quantizers
a fit begins with, and the price of a bit).
"""
