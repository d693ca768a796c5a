"""What an encoding takes, and how it is kept.

Read in this order: budget (parameters, bytes and FLOPs from formulas, plans that meet a ratio),
codes (bits of an index), encodings (save and load), files (texts; all or nothing).
"""
