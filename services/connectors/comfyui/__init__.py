"""Kind `comfyui`: a graph in API form is run by a ComfyUI server, which goes on by itself."""
