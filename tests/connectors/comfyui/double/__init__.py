"""A ComfyUI of the tests: routes and events as recorded from 0.3.64 and 0.33.0, with faults on demand."""
