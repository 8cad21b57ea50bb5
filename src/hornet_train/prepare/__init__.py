"""Preparing a data set for training: `hornet-data check` and `hornet-data pack`.

What a split consists of, and what belongs to an image, is listed by the kit of a task.

check_dataset.py    what a data set is and whether it can be used
pack_split.py       the image files of a split written into shards
decode_split.py     every image of a split decoded in worker processes
watched_workers.py  worker processes that may crash or hang without ending the program
"""
