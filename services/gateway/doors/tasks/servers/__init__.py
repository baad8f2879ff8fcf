"""Prediction servers at the task door, as clients of the task system register and watch them."""
