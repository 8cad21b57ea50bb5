"""Augmentation policies on uint8 tensors.

policy.py       the protocol of a policy
parse.py        the policy that a text in a config names
randaugment.py, autoaugment.py, augmix.py, trivial.py, three.py: one policy each
grammar.py, operations.py   what several policies share
jitter.py       colour jitter, greyscale and blur, which are applied after a policy
"""

from hornet_train.images.policies.jitter import ColorJitter, RandomBlur, RandomGreyscale
from hornet_train.images.policies.parse import parse_policy
from hornet_train.images.policies.policy import Policy

__all__ = ["ColorJitter", "Policy", "RandomBlur", "RandomGreyscale", "parse_policy"]
