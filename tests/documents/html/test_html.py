"""What becomes of HTML, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.documents.corpus import converted


@pytest.fixture
def page(tmp_path: Path) -> Any:
    def call(source: str | bytes) -> str:
        path = tmp_path / "page.html"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return converted(path).strip()

    return call


def test_what_is_no_content_is_left_out(page: Any) -> None:
    assert (
        page(
            "<html><head><title>T</title><style>p {}</style></head><body><nav>Home</nav><h1>A</h1>"
            "<script>x()</script><template>t</template><p hidden>h</p><p style='display: none'>d</p>"
            "<div role=navigation>n</div><svg><desc>s</desc></svg><!-- c --><p>B</p></body></html>"
        )
        == "# A\n\nB"
    )


def test_title_is_the_heading_where_there_is_none(page: Any) -> None:
    assert page("<title>T &amp; U</title><body><h2>S</h2>") == "# T & U\n\n## S"
    assert page("<title>T</title><body><h1>S</h1>") == "# S"


def test_words_outside_of_paragraphs_are_paragraphs(page: Any) -> None:
    assert page("<div>a<p>b</p>c <i>d</i><div>e</div></div>f") == "a\n\nb\n\nc *d*\n\ne\n\nf"


def test_lists_nest_keep_their_numbers_and_their_paragraphs(page: Any) -> None:
    made = page(
        "<ol start=3><li>three<br>half<p>more</p><ul><li>deep</li></ul></li><li>four</li></ol>"
        "<ul><li><ol><li>only</li></ol></li></ul>"
    )
    assert made == "3. three  \n    half\n\n    more\n\n    - deep\n4. four\n    1. only"


def test_definitions_stand_below_their_terms(page: Any) -> None:
    assert page("<dl><dt>T</dt><dd>d</dd><dd>e</dd><dt>U</dt><dd>f</dd></dl>") == (
        "- **T**\n    - d\n    - e\n- **U**\n    - f"
    )


def test_code_is_verbatim_and_names_its_language(page: Any) -> None:
    made = page(
        '<pre><code class="hl language-python">if x &lt; 1:\n\n    y()\n</code></pre><p>Use <tt>`a`</tt>'
    )
    assert made == "```python\nif x < 1:\n\n    y()\n```\n\nUse `` `a` ``"
    assert page("<pre>```\nx</pre>") == "````\n```\nx\n````"


def test_cells_that_span_are_in_every_place_and_the_foot_is_last(page: Any) -> None:
    made = page(
        "<table><caption>Cap</caption><tfoot><tr><td>f<td>g<td>h</tr></tfoot><thead><tr><th colspan=2>A"
        "<th rowspan=2>B</tr><tr><th>a<th>b</tr></thead><tr><td>1|<td><ul><li>x<li>y</ul><td>"
        "<table><tr><td>p<td>q</table></table>"
    )
    assert made == (
        "Cap\n\n| A | A | B |\n| --- | --- | --- |\n| a | b | B |\n| 1\\| | x y | p q |\n| f | g | h |"
    )


def test_row_of_a_group_that_holds_no_cell_of_its_own_is_left_out(page: Any) -> None:
    made = page("<table><tr><th>y<th>m<tr><th rowspan=3>1<tr><td>a<tr><td>b</table>")
    assert made == "| y | m |\n| --- | --- |\n| 1 | a |\n| 1 | b |"


def test_spans_beyond_reason_are_bounded(page: Any) -> None:
    made = page("<table><tr><td colspan=999999999 rowspan=999999999>a<td>b<tr><td>c<td colspan=x>d</table>")
    assert made.count("| a") == 200
    assert len(made) < 2_000


def test_table_that_only_arranges_the_page_is_none(page: Any) -> None:
    assert page("<table><tr><td><h2>L</h2>l<td>r</table>") == "## L\n\nl\n\nr"
    assert page("<table role=presentation><tr><td>a<td>b</table>") == "a\n\nb"
    assert page("<table><tr><td>only</table>") == "only"


def test_links_and_images_that_lead_somewhere_are_kept(page: Any) -> None:
    made = page(
        "<h2>H<a href='#h'>¶</a></h2><p><a href='/a (b)'> x </a>y <a href='#z'>z</a>"
        " <a href=' java\nscript:x'>j</a> <a href='DATA:text/html,x'>k</a>"
        " <img src='p.png' alt='A [p]'> <img src='data:image/png;base64,' alt=q>"
    )
    assert made == "## H\n\n[x](/a%20%28b%29) y z j k ![A p](p.png) q"


def test_entities_and_marks_of_markdown_do_no_harm(page: Any) -> None:
    assert page("<p>&lt;img src=x&gt; caf&eacute;&nbsp;&#8364;<p># x<p>- y<p>&gt; z") == (
        "\\<img src=x> café €\n\n\\# x\n\n\\- y\n\n\\> z"
    )


@pytest.mark.parametrize(
    ("head", "text", "encoding"),
    [
        ("", "Grüße — ñ", "utf-8"),
        ("", "Grüße “x”", "cp1252"),
        ("<meta charset=windows-1251>", "Привет", "cp1251"),
        ("<meta charset='ISO-8859-1'>", "5 € “x”", "cp1252"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "日本語", "cp932"),
        ("<meta charset=utf-16>", "é", "utf-8"),
        ("<meta charset=no-such>", "é", "utf-8"),
        ("<meta charset=unicode_escape>", "\\u0041", "utf-8"),
        ("", "Grüße", "utf-16"),
        ("", "é", "utf-8-sig"),
    ],
)
def test_encoding_is_the_one_that_the_page_has(page: Any, head: str, text: str, encoding: str) -> None:
    source = f"<html><head>{head}</head><body><p>{text}</p></body></html>"
    assert page(source.encode(encoding)) == text.replace("\\u", "\\u")


def test_right_to_left_text_keeps_its_order(page: Any) -> None:
    assert page("<p dir=rtl>مرحبا <b>بالعالم</b></p>") == "مرحبا **بالعالم**"


def test_quotes_changes_and_formulas(page: Any) -> None:
    made = page(
        "<blockquote><p>a</p><p>b</p></blockquote><p><del>old</del> <ins>new</ins> <math><mi>x</mi>"
        "<annotation encoding='application/x-tex'>x^2</annotation></math> H<sub>2</sub>O <q>c</q>"
    )
    assert made == "> a\n\n> b\n\n~~old~~ new $x^2$ H₂O “c”"


def test_what_stands_in_a_list_or_a_table_but_in_no_item_or_cell_of_it_is_kept(page: Any) -> None:
    assert page("<h1>A</h1><ul>Before<li>one</li>between<li>two</li>after</ul>") == (
        "# A\n\nBefore\n\n- one\n\n    between\n\n- two\n\n    after"
    )
    assert (
        page(
            "<h1>A</h1><table>stray<tr><td>1</td><td>2</td></tr><tr style='display:none'><td>h<td>h</tr>"
            "<form><tr><form><td>3</td></form><td>4</td></tr></form></table>"
        )
        == "# A\n\nstray\n\n| 1 | 2 |\n| --- | --- |\n| 3 | 4 |"
    )


def test_the_texts_of_a_drawing_are_kept(page: Any) -> None:
    drawn = (
        "<svg><title>t</title><g><text>Sales</text><text><tspan>2</tspan><tspan>5</tspan></text></g></svg>"
    )
    assert page(f"<h1>A</h1><p>x{drawn}y</p>") == "# A\n\nx Sales 25 y"
