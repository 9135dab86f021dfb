"""The runner itself: what matches, what it finds in a document, that it fails when it should."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location(
    "tutorial_runner", Path(__file__).with_name("tutorial_runner.py")
)
assert SPEC is not None
assert SPEC.loader is not None
tutorial_runner = importlib.util.module_from_spec(SPEC)
sys.modules["tutorial_runner"] = tutorial_runner
SPEC.loader.exec_module(tutorial_runner)

DOCUMENT = """
```console
$ mkdir -p deep
$ cd deep
```

```python file=a.py
print("hi")
```

```console eventually
$ cat a.py; echo two
print…
two
```
"""


@pytest.mark.parametrize(
    ("expected", "printed", "fits"),
    [
        ([], [], True),
        ([], ["x"], False),
        (["a … c"], ["a b c"], True),
        (["a … c"], ["a b d"], False),
        (["a", "…"], ["a"], True),
        (["…", "z"], ["x", "y", "z"], True),
        (["…", "z"], ["x", "y"], False),
        (["a   b"], ["a b"], True),
        (["a.b"], ["axb"], False),
    ],
)
def test_expected_lines_match_printed_ones(expected, printed, fits):
    assert tutorial_runner.matches(expected, printed) is fits


def test_a_document_is_executed_in_order_and_in_its_directory(tmp_path):
    runner = tutorial_runner.Runner(tmp_path, os.environ)
    assert runner.run(DOCUMENT) == 3
    assert runner.directory == tmp_path / "deep"


def test_what_is_not_as_written_is_an_error(tmp_path):
    with pytest.raises(AssertionError, match="expected"):
        tutorial_runner.Runner(tmp_path, os.environ).run("```console\n$ echo a\nb\n```\n")
