"""Sees to it that what is due happens: timers, lost workers, lanes, the source, and a slow sweep.

Several keepers may run: they share durable consumers, and the guard makes a decision made twice harmless.
"""
