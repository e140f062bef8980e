"""The sections of a page, one file each: what is known of a target, as tables, plots and words."""
