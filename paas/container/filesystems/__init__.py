"""How the base, the bundle and what a component writes become one file tree, bounded in size.

Three ways behind one interface (`contract.py`), chosen by what the node has (`choose.py`):

    overlay   base and bundle below, a writable layer above: a file system in a nameless image, or
              memory
    btrfs     a template subvolume per base and bundle, a snapshot of it per container, a quota
    binds     base and bundle shown read-only in a small tree of memory (or of an image)

What is done on the host is here; what the container's first process mounts is in `views.py`, called
by `container/tree.py`.  Snapshots of a component's files are kept by `container/snapshots.py`.
"""
