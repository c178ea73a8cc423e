"""`segue demo`: one job from start to end, and the check of every claim."""
