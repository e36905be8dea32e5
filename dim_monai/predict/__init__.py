"""From images as a clinic has them to masks beside them: what ``dim-monai predict`` does."""
