"""Sets that ImageNet classifiers are evaluated on, never trained."""

from hornet_train.data.suites.corruptions import corruption_errors
from hornet_train.data.suites.opening import find_set, open_set, usual_places
from hornet_train.data.suites.suite import Suite

__all__ = ["Suite", "corruption_errors", "find_set", "open_set", "usual_places"]
