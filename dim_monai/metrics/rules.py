"""What the scores mean, in the words that are printed under every table of them."""

from __future__ import annotations

MISSED = "missed"
FALSE_POSITIVE = "false positive"
BOTH_EMPTY = "both empty: not scored"
BOTH_EMPTY_IS_1 = "both empty: scored 1"

EMPTY_MASK_RULE = (
    "Empty masks: a structure that is in the truth but not in the prediction (missed), or in the "
    "prediction but not in the truth (false positive), scores Dice 0, Jaccard 0 and surface Dice "
    "0, and its distances are the image diagonal; both are counted. A case in which both are "
    "empty is not scored and enters no mean, unless its note says that it was scored 1, by choice."
)

SCORING_RULE = (
    "Each case is scored once, as a whole. A surface is the set of voxels of the structure that "
    "share a face with the outside; distances are between voxel centres, in mm, and for "
    "photographs in their own pixels. HD95 is the larger of the two directed 95th percentiles of "
    "surface distance; ASSD is the mean over both surfaces pooled; surface Dice is the share of "
    "both surfaces pooled that lies within the tolerance of the other; errors are prediction minus "
    "truth. Means are over the cases of a domain, then over domains with equal weight; ± is the "
    "sample standard deviation of what was averaged. Numbers in brackets are how many of how many "
    "entered a mean, where that is not what stands under scored."
)

PAPER_RULE = (
    "Reference definitions (MiDSS, SynFoC), only to compare with published numbers; not to be "
    "mixed with the scores above. Every slice along the body axis, or every photograph, counts "
    "alone; distances are in pixels, whatever the spacing. HD95 is the 95th percentile of both "
    "directions pooled; ASD goes one way, from prediction to truth. An empty prediction has 100 "
    "for both distances, even where the truth is empty too. Where both are empty Dice and Jaccard "
    "are 0. Where only the truth is empty they are 0 and there is no distance, for the reference "
    "code stops there. Means are over the slices of a domain, then over domains. Pixels are those "
    "of the case; the reference code scores at the size of its network."
)
