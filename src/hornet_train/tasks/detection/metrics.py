"""The metrics of detection: COCO's twelve numbers, of boxes and of masks, in per cent."""

from __future__ import annotations

from hornet_train.track.metric_table import MetricInfo, MetricTable

# The keys of COCO's summary in its order, and how they are printed. AP: the mean average precision over ten
# IoU thresholds, .50 to .95; AR: the mean recall of at most so many detections a picture. Small objects have
# less than 32^2 pixels, large ones more than 96^2.
SUMMARY = (
    ("ap", "AP"),
    ("ap50", "AP50"),
    ("ap75", "AP75"),
    ("ap_small", "AP small"),
    ("ap_medium", "AP medium"),
    ("ap_large", "AP large"),
    ("ar1", "AR 1"),
    ("ar10", "AR 10"),
    ("ar100", "AR 100"),
    ("ar_small", "AR small"),
    ("ar_medium", "AR medium"),
    ("ar_large", "AR large"),
)
KINDS = {"box": "bbox", "mask": "segm"}  # ours -> the COCO tools'
_BRIEF = ("ap", "ap50", "ap75")
METRICS = MetricTable(
    tuple(
        MetricInfo(f"{kind}_{key}", f"{kind} {label}", percent=True, detail=key not in _BRIEF)
        for kind in KINDS
        for key, label in SUMMARY
    )
)
