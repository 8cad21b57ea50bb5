"""Whether a model takes the images that it is to see, found before anything is computed."""

from __future__ import annotations

from torch import nn

from hornet_train.errors import ConfigError
from hornet_train.models.complexity import Complexity, count
from hornet_train.tasks.classification import MODEL_ERRORS, in_words


def measured(model: nn.Module, name: str, image_size: int, key: str = "data.image_size") -> Complexity:
    """What a model costs at an image size, the value of `key`, found by running it without arithmetic.

    Raises:
        ConfigError: it does not take images of that size.
    """
    try:
        return count(model, image_size)
    except MODEL_ERRORS as error:
        raise ConfigError([f"{key}={image_size} does not suit {name}: {in_words(error)}"]) from error
