"""Static content: files of a folder, with conditions and ranges."""
