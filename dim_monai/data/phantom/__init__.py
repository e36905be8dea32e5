"""Synthetic cases for demonstrations and tests: one room per organ, anatomy apart from the device.

What differs between domains is what differs between real scanners and cameras, and never the
anatomy. No number measured on these images says anything about patients.
"""
