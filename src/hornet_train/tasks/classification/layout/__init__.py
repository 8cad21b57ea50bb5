"""Data sets of class folders, as `hornet-data check` and `hornet-data pack` list them.

data_files.py       what `hornet-data` asks for
split_layout.py     the folders and files of a split, and what is wrong with them
check_layout.py     what a data set is and whether it can be used, by the names of its files
pack_layout.py      a split without faults, with the label of each image
label_sets.py       the published label sets
similar_classes.py  class names that are nearly the same
"""
