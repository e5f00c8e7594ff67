"""What the Eyecandies release holds (Bonfiglioli et al., ACCV 2022)."""

CLASSES = (
    "CandyCane",
    "ChocolateCookie",
    "ChocolatePraline",
    "Confetto",
    "GummyBear",
    "HazelnutTruffle",
    "LicoriceSandwich",
    "Lollipop",
    "Marshmallow",
    "PeppermintCandy",
)

# samples of each class, as in datasets.mvtec3d: train, validation, test/good, anomalous of test_public
RELEASED_COUNTS = dict.fromkeys(CLASSES, (1000, 100, 25, 25))
RAW_COUNTS = {"train": 1000, "val": 100, "test_public": 50, "test_private": 400}
