"""The parts of two-stage detectors (R-CNN): anchors, proposals, and heads on regions of interest."""
