"""What image files say of how they were made: read, written and removed without a pixel being unpacked."""
