"""Bounds of registered images and of what nodes make of them."""

from paas.oci.limits import ENVIRONMENT_BYTES_MAX, LAYERS_MAX, WORDS_BYTES_MAX
from paas.raft.limits import COMMAND_BYTES_MAX

LAYER_COMMAND_BYTES = 180
"""What one layer is in a command: two digests, a size, their names."""

IMAGES_MAX = 200
"""Registered images of a cluster: they are part of its state."""

TREE_ENTRIES_MAX = 1_000_000
"""Files, directories and links of one unpacked image."""

TREE_BYTES_MAX = 32 << 30
"""Bytes of all files that one image brings, those included that an upper layer hides."""

PIECE_BYTES = 1 << 20
"""What a client sends, or is given, at a time."""

UPLOADS_MAX = 8
"""Uploads that may be open at the same time on one node."""

FETCH_WAIT_S = 50.0
"""How long a start waits for the layers of its base; the fetch goes on afterwards."""

PREPARE_TIMEOUT_S = 120.0
"""How long the container controller may take to unpack an image."""

ANSWER_MARGIN_S = 0.25
"""A request gives up so long before its sender does, to say why."""

RETAIN_TIMEOUT_S = 60.0
"""How long the container controller may take to remove what is not needed any more."""

RETAIN_PERIOD_S = 120.0
"""How often to drop what was in use when its image went."""

RETAIN_PAUSE_S = 5.0
"""Before that is asked for again."""

VERIFY_TIMEOUT_S = 600.0
"""How long one node may take to read an image again."""

CHECKED_MAX = 1_000
"""Layers that were uploaded and verified, and of which no image is known yet."""

REGISTER_TRIES = 3
"""A registration that meets the removal of another image begins anew."""

assert (
    LAYERS_MAX * LAYER_COMMAND_BYTES + ENVIRONMENT_BYTES_MAX + WORDS_BYTES_MAX + 1_024
    < COMMAND_BYTES_MAX
), "every image that can be read can be registered"
