"""What cuts text into World tokens: our own encoder, or the compiled one of the package pyrwkv-tokenizer.

The package is four to seven times as fast and takes 235 MiB. It is trusted only as far as it has been
compared, and only with encoding: its decoder panics on half a character and on ids without a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from .greedy import Greedy

PACKAGE = "pyrwkv_tokenizer"

SAMPLES = (
    "",
    "\0",
    " ",
    "Hello, world!",
    "User: What is 2 + 2?\n\nAssistant: 4.\n\n",
    "def f(x):\n    return {'a': [x ** 2, None]}  # square\r\n",
    "\t\tif (i >= 0 && j != i) { a[i++] = '\\n'; }\n",
    "3.14159265358979 1,000,000 0x7FFF 1e-12",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQ",
    "äöüß ÀÉÎ ñ ç ø å Ł ő ğ",
    "Съешь же ещё этих мягких французских булок",
    "我能吞下玻璃而不伤身体。我能吞下玻璃而不傷身體。",
    "私はガラスを食べられます。それは私を傷つけません。",
    "나는 유리를 먹을 수 있어요",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني",
    "אני יכול לאכול זכוכית",
    "मैं काँच खा सकता हूँ ฉันกินกระจกได้",
    "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    "e\u0301 Z\u0351\u036b\u0343 \u202eright to left\u202c \ufeffmark \ufffd",
    " " * 300 + "\n" * 100 + "\t" * 50 + "\r\n" * 20,
    "\x01\x1b[0m\x7f\x80\x85\xff\u2028\u2029\U000e0001\U0010ffff",
    "=" * 200 + "-" * 200 + "#" * 200,
)
"""Scripts, code, numbers, a protein, emoji, marks, control characters, and long runs."""


class Encoder:
    """Encodes with the package as long as it is right, else in Python."""

    name: str
    """What encodes, for a person: the package, or Python and why."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """`pieces` by id. The package must agree on SAMPLES and on a text of all the tokens."""
        self._greedy = Greedy(pieces)
        self._fast: Callable[[str], Sequence[int]] | None = None
        if find_spec(PACKAGE) is None:
            self.name = f"Python ({PACKAGE} is not installed)"
            return
        # No longer token has a NUL, so between NULs every token that is a text stays one token.
        every_token = "\0".join(piece.decode(errors="ignore") for piece in pieces)
        try:
            fast = import_module(PACKAGE).RWKVTokenizer().encode
            wrong = [text for text in (*SAMPLES, every_token) if fast(text) != self._exact(text)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in Rust is no Exception
            self._give_up(error)
            return
        if wrong:
            self.name = f"Python ({PACKAGE} is not used: its ids for {wrong[0][:40]!r} are wrong)"
        else:
            self._fast, self.name = fast, PACKAGE

    def encode(self, text: str) -> Sequence[int]:
        """The ids of a text without surrogates."""
        if self._fast is not None:
            try:
                return self._fast(text)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic in Rust is no Exception
                self._give_up(error)
        return self._exact(text)

    def _exact(self, text: str) -> list[int]:
        return self._greedy.encode(text.encode())

    def _give_up(self, error: BaseException) -> None:
        self._fast = None
        self.name = f"Python ({PACKAGE} is not used: {type(error).__name__}: {error})"
