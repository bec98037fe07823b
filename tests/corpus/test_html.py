from tutelage.corpus.html import all_text, main_text

WORDS = "The wind rose in the night, and the boats that lay in the harbour began to pull at their ropes. "


def test_structure_is_kept() -> None:
    page = (
        "<html><head><title>T</title><style>p {}</style></head><body><nav><a>menu</a></nav><article>"
        f"<h1>Title</h1><p>One &amp;\n  <b>two</b>. {WORDS}</p><ul><li>first<li>second<ol><li>deep</ol></ul>"
        "<h2>Code</h2><p>Call <code>f(x)</code> now.</p><pre>a  b\n  &lt;c&gt;</pre><script>var x = 1;</script>"
        "<table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td>a|b</td></tr></table>"
        f"<blockquote><p>{WORDS}</p></blockquote><p>中文😀。{WORDS}</p></article><footer>end</footer></body></html>"
    )
    assert main_text(page).split("\n\n") == [
        "# Title",
        f"One & two. {WORDS.strip()}",
        "- first\n- second\n  1. deep",
        "## Code",
        "Call `f(x)` now.",
        "```\na  b\n  <c>\n```",
        "| k | v |\n| 1 | a\\|b |",
        f"> {WORDS.strip()}",
        f"中文😀。{WORDS.strip()}",
    ]


def test_what_is_around_the_main_text_goes() -> None:
    links = "".join(f"<li><a href=/{n}>Another story {n} that you may want to read</a>" for n in range(9))
    page = (
        f"<body><div id=header><a href=/>Home</a> <a href=/news>News</a></div><div class=sidebar><ul>{links}</ul></div>"
        f"<div class='post-content'><h1>Storm</h1><p>{WORDS * 2}</p><p>Short.</p><p>{WORDS * 2}</p>"
        f"<div class='share-buttons'>Share on everything</div><h3>Related posts</h3><ul>{links}</ul></div>"
        f"<div id=comments><p>I say: {WORDS * 9}</p></div><div class=footer>Copyright, all rights</div></body>"
    )
    text = main_text(page)
    assert text.startswith("# Storm\n\nThe wind")
    assert "Short." in text
    for word in ("Another story", "Home", "Share", "I say", "Copyright", "Related"):
        assert word not in text


def test_chinese_pages() -> None:
    words = "卷积神经网络是深度学习的代表算法之一，具有表征学习的能力。"
    page = (
        f"<body><ul class=nav><li><a href=/>首页</a><li><a href=/x>新闻</a></ul><div class=article><p>{words * 3}</p>"
        f"<p>{words * 3}</p></div><div class=hot><h3>相关阅读</h3><ul><li><a href=/1>另一篇文章</a></ul></div>"
        "<p>版权所有 © 2020 京ICP备12345678号</p></body>"
    )
    assert main_text(page) == f"{words * 3}\n\n{words * 3}"


def test_an_unclosed_element_does_not_hide_the_rest() -> None:
    assert main_text(f"<div class=x><form>menu</div><p>{WORDS}</p>").endswith(WORDS.strip())


def test_hidden_text_is_not_read() -> None:
    page = f"<p>{WORDS}</p><p hidden>{WORDS}a</p><div style='display: none'><p>{WORDS}b</p></div><p>{WORDS}c</p>"
    assert main_text(page).split("\n\n") == [WORDS.strip(), f"{WORDS}c"]


def test_a_page_without_sentences_gives_what_there_is() -> None:
    assert main_text("<main><h1>Release 4.0</h1><p>New</p><p>Fixed</p></main>") == "# Release 4.0\n\nNew\n\nFixed"
    assert main_text("") == ""
    assert main_text("<body><script>only()</script></body>") == ""


def test_elements_within_elements_without_end() -> None:
    deep = "<div>" * 3000 + WORDS + "</div>" * 3000
    assert WORDS.strip() in main_text(f"<body>{deep}<p>{WORDS}</p></body>")
    assert WORDS.strip() in all_text("<span>" * 3000 + WORDS)


def test_all_text_leaves_nothing_out() -> None:
    assert all_text("<body><p class=sidebar>a</p><p><a href=/>b</a></p></body>") == "a\n\nb"
