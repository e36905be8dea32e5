"""MONAI Label: what its server passes, what it leaves out, and which case to label next.

Only `app`, `strategy` and the command need MONAI Label; `lists` and `disagreement` do not.
"""
