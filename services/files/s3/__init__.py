"""Bytes of files in S3, or in what speaks like it: an object for each upload, never written again."""

from switchyard.services.files.s3.choice import remote_place
from switchyard.services.files.s3.client import S3, S3Error

__all__ = ["S3", "S3Error", "remote_place"]
