"""Masks that pruning during training sets: the rule, the statistic, the schedules."""
