"""Every rule of the platform that is switched off is noticed: the simulation is not blind.

For each mutant the seed is named that caught it last; when the code has changed so much that this
seed tells another story, others are tried, up to five hundred.
"""

from __future__ import annotations

import json

import pytest

from paas.sim.platform.controller_mutants import MUTANTS
from paas.sim.platform.runner import Worker

TRIES_MAX = 500
SECONDS = 300.0
