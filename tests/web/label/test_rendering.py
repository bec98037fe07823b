"""The one way in which somebody's words become part of a page."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.web.label.rendering import LONGEST_MARKDOWN, rendered
from tutelage.web.label.task_words import TASK
from tutelage.web.label.words import PAGES

ALLOWED = set(
    "p br strong em s code pre ul ol li blockquote h1 h2 h3 h4 h5 h6 table thead tbody tr th td hr span".split()
)


def tags(html: str) -> list[tuple[str, str]]:
    return re.findall(r"<\s*/?\s*([a-zA-Z][\w-]*)([^>]*)>", html)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** `c`", "<p>a <strong>b</strong> <code>c</code></p>\n"),
        ("<b>x</b> & y", "<p>&lt;b&gt;x&lt;/b&gt; &amp; y</p>\n"),
        ("[name](http://x.example/a?b=1)", "<p>name <code>http://x.example/a?b=1</code></p>\n"),
        ("<http://x.example>", "<p>http://x.example</p>\n"),
        ("![cat](http://x.example/c.png)", '<p><span class="media">🖼 cat <code>http://x.example/c.png</code></span></p>\n'),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>\n"),
        ("```html\n<script>1</script>\n```", "<pre><code>&lt;script&gt;1&lt;/script&gt;\n</code></pre>\n"),
        (
            "| a |\n|---|\n| b |",
            "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>b</td>\n</tr>\n</tbody>\n</table>\n",
        ),
        ("~~gone~~", "<p><s>gone</s></p>\n"),
        ("你好，**世界**", "<p>你好，<strong>世界</strong></p>\n"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_a_text_looks_like(text: str, html: str):
    assert rendered(text) == html


PIECES = [
    "<", ">", "script", "img src=x", " onerror=", "[", "](", ")", "javascript:", "`", "\n", "&lt;", "\x00", "style",
    "svg",
    "--", "!", "a", "|", "***", "\\", "http://x.example", '"', "'", "=", "\u202e",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_nothing_but_plain_structure_comes_out(text: str):
    for name, attributes in tags(rendered(text)):
        assert name in ALLOWED
        assert re.fullmatch(r'( start="\d+"| class="media"|\s*/?)*', attributes), attributes


def test_what_is_too_long_is_shown_as_it_is():
    html = rendered("**x** <b>" + "y" * LONGEST_MARKDOWN)
    assert html.startswith("<pre>**x** &lt;b&gt;y")


def test_no_word_of_the_pages_has_another_meaning_on_the_task_page():
    assert not PAGES.keys() & TASK.keys()
