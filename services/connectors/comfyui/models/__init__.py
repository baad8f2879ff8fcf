"""Fetching the model files that waiting jobs need into the folder of a ComfyUI, within a limit."""
