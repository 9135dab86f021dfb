"""Container images as others write and read them: the OCI image format, and docker's archives.

`documents` is the JSON of an image, `tar_reader` the entries of a layer, `compression` its packed
form, `source` where an image is read from, `target` how one is written.  Nothing here unpacks onto
a disk: `paas.layers.unpack` does, with what `tar_reader` let through.
"""
