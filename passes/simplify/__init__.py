"""Rewritings before the analysis that change no result: one file each."""
