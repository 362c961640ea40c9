"""The parts of a person that have a branch, and what tells them."""

# Label k + 1 of a segmentation is part k; 0 is background.
PARTS = ('head', 'upperbody', 'lowerbody', 'shoe', 'backpack')
