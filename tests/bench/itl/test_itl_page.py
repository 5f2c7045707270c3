"""The page holds everything, and nothing that is in it can break it."""

from bench.itl.page import page
from bench.sheets import Sheet


def test_a_page_escapes_what_it_is_told() -> None:
    sheets = [Sheet("Headline", ["figure", "value"], [["<b>", "1"]]), Sheet("More", ["a"], [["x & y"]])]
    told = page(
        "T", "chiasm bench itl --endpoint http://a?b&c", "abc", ["5 < 6"], "<svg></svg>", sheets, {"cpu": "<x>"}
    )
    for escaped in ("&lt;b&gt;", "x &amp; y", "5 &lt; 6", "http://a?b&amp;c", "&lt;x&gt;"):
        assert escaped in told
    assert told.index("Headline") < told.index("<svg></svg>") < told.index("More")
