"""Sets that ImageNet classifiers are evaluated on, never trained."""

from hornet_train.tasks.classification.suites.corruptions import corruption_errors
from hornet_train.tasks.classification.suites.find_suite import find_set, open_set, usual_places
from hornet_train.tasks.classification.suites.suite import Suite

__all__ = ["Suite", "corruption_errors", "find_set", "open_set", "usual_places"]
