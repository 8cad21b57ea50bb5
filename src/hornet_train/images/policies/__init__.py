"""Augmentation policies on uint8 tensors.

policy.py       what a policy is
parse.py        the text of a config -> a policy
randaugment.py, autoaugment.py, augmix.py, trivial.py, three.py
jitter.py       colour jitter, greyscale and blur, which follow a policy
"""

from hornet_train.images.policies.jitter import ColorJitter, RandomBlur, RandomGreyscale
from hornet_train.images.policies.parse import parse_policy
from hornet_train.images.policies.policy import Policy

__all__ = ["ColorJitter", "Policy", "RandomBlur", "RandomGreyscale", "parse_policy"]
