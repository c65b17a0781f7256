"""What the code must not do, read from its source; who may write what it writes; secrets that stay out."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsearch.system.secrets import without_secrets

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "fsearch").rglob("*.py"))

FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "input", "breakpoint"),
    *("os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.spawnv", "pty.spawn"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open"),
    *("dill.load", "dill.loads", "joblib.load", "cloudpickle.load", "cloudpickle.loads", "torch.jit.load"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all"),
    *("socket.create_server", "asyncio.start_server", "asyncio.start_unix_server"),
}
FORBIDDEN_MODULES = {
    *("http.server", "socketserver", "xmlrpc.server", "wsgiref", "multiprocessing", "marshal", "shelve"),
    *("dill", "joblib", "cloudpickle", "telnetlib", "ftplib", "smtplib"),
}
FORBIDDEN_METHODS = {"bind", "listen", "accept"}  # of sockets; nothing else here has any of these names
LOADERS = {"SafeLoader"}

LOADS_OF_OUR_OWN = {
    "fsearch/train/checkpoint.py": 1,  # written by us and checksummed
    "fsearch/rwkv7/checkpoint.py": 1,  # a model's weights, tensors alone
}
"""Where torch.load is called, how often; always with weights_only."""

RUNS_PROGRAMS = {"fsearch/tasks/code_exec/driver.py": ["calls compile", "calls exec"]}
"""What runs the programs of a model: a process of its own, in the sandbox, where a plan asks for it."""


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the name of what is called, such as "os.system"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def offences(text: str) -> list[str]:
    """What a source does that none of ours may."""
    found = []
    tree = ast.parse(text)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [f"imports {name}" for name in names if name in FORBIDDEN_MODULES | FORBIDDEN_CALLS]
    for node, name in calls(tree):
        given = {one.arg: one.value for one in node.keywords}
        if name in FORBIDDEN_CALLS or name.split(".")[-1] in FORBIDDEN_METHODS:
            found.append(f"calls {name}")
        for switch in ("shell", "allow_pickle", "trust_remote_code"):
            if switch in given and ast.unparse(given[switch]) != "False":
                found.append(f"calls {name} with {switch}")
        if name == "torch.load" and ast.unparse(given.get("weights_only", ast.Constant(None))) != "True":
            found.append("calls torch.load without weights_only")
        if name.startswith("yaml.") and name.split(".")[-1] in ("compose", "parse", "scan", "compose_all"):
            loader = ast.unparse(given.get("Loader", ast.Constant(None)))
            if loader.removeprefix("yaml.") not in LOADERS:
                found.append(f"calls {name} with the loader {loader}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    """No pickle of anybody else's, no shell, no evaluated text, no port that is listened on."""
    assert offences(path.read_text()) == RUNS_PROGRAMS.get(str(path.relative_to(ROOT)), [])


@pytest.mark.parametrize(
    "text",
    [
        *("eval(plan)", "import os\nos.system(x)", "import pickle\npickle.load(f)", "import http.server"),
        *("from pickle import loads", "subprocess.run(x, shell=True)", "torch.load(f)", "yaml.load(t)"),
        *("torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "s.bind(('', 80))"),
        *("load_dataset(n, trust_remote_code=True)", "yaml.compose(t, Loader=yaml.Loader)", "yaml.parse(t)"),
        *("from multiprocessing import Queue", "exec(x)", "from os import system"),
    ],
)
def test_the_test_sees_it(text: str) -> None:
    """Each of these would be found."""
    assert len(offences(text)) == 1


def test_torch_loads_nothing_else() -> None:
    """The places where a file of torch is read are known, and each has its own guard."""
    found = {
        str(path.relative_to(ROOT)): sum(
            name == "torch.load" for _, name in calls(ast.parse(path.read_text()))
        )
        for path in SOURCES
    }
    assert {path: count for path, count in found.items() if count} == LOADS_OF_OUR_OWN


def test_secrets_are_taken_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The token of the environment, of the file that a login leaves, what looks like one, and passwords."""
    monkeypatch.setenv("HF_TOKEN", "a-token-of-mine")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("another-token\n")
    look = "hf_" + "Ab1" * 11
    said = (
        f"401 for a-token-of-mine, another-token, {look} at https://me:pass@proxy:3128/x and http://h/a:b@c"
    )
    assert without_secrets(said) == (
        "401 for [token], [token], [token] at https://[user and password]@proxy:3128/x and http://h/a:b@c"
    )
    assert without_secrets("nothing at hf://owner/repo@main") == "nothing at hf://owner/repo@main"
    monkeypatch.setenv("HF_TOKEN", "")
    (tmp_path / "token").write_text("a")
    assert without_secrets("a banana") == "a banana"


def writable_by_others(folder: Path) -> list[Path]:
    """What in a folder, itself included, anybody but its owner may write."""
    return [
        path
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]


def unreadable_by_all(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.stat().st_mode & stat.S_IROTH]


def test_only_the_owner_may_write(tmp_path: Path, kernel_library: Path) -> None:
    """Record, caches and logs of a run and of a check, under the most careless umask there is; and
    all may read them. Under a careful one nobody else may even do that."""
    from tests.end_to_end.runs import Run
    from tests.ui.commands import fsearch

    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "name: umask\nseed: 0\nmodel: {init: {n_layer: 2, n_embd: 16, head_size: 8}}\ntrain: {lr: 1.0e-2}\n"
        "stages:\n  - {name: only, steps: 2, seeds: 3}\nvariants: [scalar_l1]\n"
        "tasks:\n  - {task: infill, n_symbols: 4, n_masks: 4, n_left: 2, n_train: 64, n_val: 16, batch: 16}\n"
    )
    for umask, careful in ((0, False), (0o077, True)):
        old = os.umask(umask)
        try:
            folder = tmp_path / f"umask {umask:o}"
            cache = folder / "state" / "cache" / "kernel"
            cache.mkdir(parents=True)
            (cache / kernel_library.name).write_bytes(kernel_library.read_bytes())
            (folder / "locks").mkdir()
            for made_here in (folder / "state", cache.parent, cache):
                made_here.chmod(0o755)
            (cache / kernel_library.name).chmod(0o644)
            run = Run(folder / "state", plan)
            try:
                run.to_the_end()
            finally:
                run.end()
            seen = fsearch("check", plan, "--data", "--state", folder / "checked", cwd=tmp_path)
            assert seen.returncode == 0, seen.stderr
        finally:
            os.umask(old)
        for place in ("state", "checked"):
            assert writable_by_others(folder / place) == []
        record = folder / "state" / "fsearch.db"
        assert stat.S_IMODE(record.stat().st_mode) == (0o600 if careful else 0o644)
        closed = [
            path
            for place in ("state", "checked")
            for path in unreadable_by_all(folder / place)
            if path.name != kernel_library.name
        ]
        assert bool(closed) == careful, closed
