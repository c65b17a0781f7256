"""Texts that tokenizers get wrong."""

from __future__ import annotations

from hypothesis import strategies

TEXTS = {
    "english": "The quick brown fox jumps over 13 \"lazy\" dogs; it's 3.5 km/h, isn't it?",
    "german": "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "russian": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "chinese": "敏捷的棕色狐狸跳过了懒狗。臺灣繁體字,㐀𠀀𪚥。",
    "japanese": "いろはにほへと ちりぬるを ワカヨタレソ ﾂﾈﾅﾗﾑ",
    "korean": "키스의 고유조건은 입술끼리 만나야 하고",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा",
    "thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "tibetan": "ༀ་མ་ཎི་པདྨེ་ཧཱུྃ",
    "code": 'def f(x: int) -> dict:\n    return {\'a\': [x**2, None], "b": f"{x!r:>8}"}  # ok\r\n\r\n',
    "c": '#include <stdio.h>\n\tfor (int i = 0; i < n; ++i) { printf("%d\\n", a[i] & 0xFF); }\n',
    "protein": "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV",
    "chat": "User: hi\n\nAssistant: Hello!\n\nUser: <think>\n</think>",
    "emoji": "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea \u2764\ufe0f",
    "combining": "e\u0301 a\u0308\u0323 Z\u0351\u036b\u0343\u036a\u0342\u036b\u033d\u034f \u1100\u1161\u11a8",
    "controls": "".join(map(chr, [*range(32), 127, *range(128, 160)])),
    "invisible": "\ufeff\u200b\u200e\u202e\u2028\u2029\u00ad\u2060\U000e0041\ufff9\ufffe\uffff\U0010ffff",
    "spaces": " " * 513 + "x" + " " * 127 + "\n" * 65 + "\t" * 33 + " \n" * 20 + "\r\n" * 9 + "\u3000" * 9,
    "runs": "=" * 161 + "-" * 81 + "#" * 79 + "_" * 33 + "0" * 50 + "a" * 100,
    "mojibake": b"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff\xfe\x80\xc0\xaf".decode("latin-1"),
    "replacement": "\ufffd\ufffd a \ufffd",
    "nothing": "",
    "nul": "\0",
}

unicode_text = strategies.text()
"""Any text without surrogates."""

python_text = strategies.text(strategies.characters())
"""Any str, with lone surrogates too."""

integers = strategies.one_of(
    strategies.integers(-3, 70_000), strategies.integers(), strategies.integers(129, 256)
)
"""Ids of the World vocabulary and others; 129..256 are bytes that are never a character alone."""
