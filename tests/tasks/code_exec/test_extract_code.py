"""The program in a model's answer."""

from __future__ import annotations

import pytest

from fsearch.tasks.code_exec import extract_code

ANSWERS = {
    "def f(x):\n    return x": "def f(x):\n    return x",
    "\n\n    \ndef f(x):\r\n    return x\r\n\r\n": "def f(x):\n    return x",
    "    return x + 1\n": "    return x + 1",  # the body of a function keeps its indentation
    "Here it is:\n```python\nx = 1\n```\nIt works.": "x = 1",
    "```\nx = 1\n```": "x = 1",
    "```py\nx = 1\ny = 2": "x = 1\ny = 2",  # cut off before its end
    "```bash\npip install x\n```\n```Python title=a\nx = 1\n```\n```python\nx = 2\n```": "x = 1",
    "```sh\nls\n```\n~~~\nx = 2\n~~~": "ls",
    "~~~~python\n'''\n```\n~~~\n'''\n~~~~\nend": "'''\n```\n~~~\n'''",
    "1. So:\n   ```python\n   def f():\n       return 1\n   ```\n": "def f():\n    return 1",
    "use `f` or ```g``` then\nx = 1": "use `f` or ```g``` then\nx = 1",
    "x = '''\n  ```\n'''": "'''",  # a fence within a program without one is taken for one
    "```python\n```": "",
    "": "",
    " \n\t\n": "",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_extract_code(answer: str) -> None:
    assert extract_code(answer) == ANSWERS[answer]


def test_a_program_is_its_own_answer() -> None:
    """What was extracted is not changed by extracting it again."""
    for code in ANSWERS.values():
        assert "```" in code or extract_code(code) == code
