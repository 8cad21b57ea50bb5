"""Preparing a data set for training: `hornet-data check` and `hornet-data pack`.

check_dataset.py    what a data set is and whether it can be used
pack_split.py       the class folders of a split written into shards
split_layout.py     the folders and files of a split, listed
decode_split.py     every image of a split decoded in worker processes
watched_workers.py  worker processes that may crash or hang without ending the program
"""
