"""Plain text out of HTML: a table of what comes out, and nothing takes it long."""

import time
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail_outbox.core.html_text import html_to_text

TOKENS = ["<", ">", "</", "<!--", "-->", "<![", "<?", "<a href='", '<a href="', "<p>", "</p>", "<li>", "<ol>", "</ol>"]
TOKENS += ["<div hidden>", "</div>", "<style>", "<pre>", "<td>", "<br/>", "&amp;", "&#0;"]
TOKENS += ["=", "/", " ", "\n", "x", "\0"]
HOSTILE = ["<a ", '<a href="<img alt=">', "<a b='<a b='>", "<a b=c d>", "<a href=x>y", "<!--", "<![", "<?", "<style"]
HOSTILE += ["<blockquote>x", "<div hidden>", "<ul></b>", "<li>", "<br>", "<td>", "</a>", "<pre>", "<pre>\n"]
HOSTILE += [" ", "/", "&"]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("Just text", "Just text"),
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("<p>One<p>Two", "One\n\nTwo"),
        ("<div>One</div><div>Two</div>", "One\nTwo"),
        ("One<br>Two<br/>Three", "One\nTwo\nThree"),
        ("One<br><br><br><br>Two", "One\n\nTwo"),
        ("<h1>Title</h1>Text<h2>Next</h2>More", "Title\n\nText\n\nNext\n\nMore"),
        ("Above<hr>Below", "Above\n\nBelow"),
        ("  One \n\t two  <b> three</b> ,<i>four</i>\n", "One two three ,four"),
        ("<p>  </p><p>&nbsp;</p>Text<p> </p>", "Text"),
        ("Tom &amp; Jerry &lt;3 &#8364; &eacute;", "Tom & Jerry <3 € é"),
        ("10&nbsp;%", "10 %"),
        ("3 < 4 and 5 > 4", "3 < 4 and 5 > 4"),
        ("<span>a</span><span>b</span>", "ab"),
    ],
)
def test_paragraphs_and_words(html, text):
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('Read <a href="https://x.example/1">this</a>.', "Read this (https://x.example/1)."),
        ('<a href="https://x.example/">https://x.example</a>', "https://x.example"),
        ('<a href=" https://x.example/a\nb ">x </a>y', "x (https://x.example/ab) y"),
        ('<a href="?a=1&amp;b=2">x</a>', "x (?a=1&b=2)"),
        ('<a href="https://x.example"><div>Button</div></a>Text', "Button (https://x.example)\nText"),
        ('<a href="https://x.example"><b>One</b> two<br>three</a>', "One two\nthree (https://x.example)"),
        ('<a href="mailto:jane@example.com?subject=Hi">jane@example.com</a>', "jane@example.com"),
        ('<a href="mailto:jane@example.com">Jane</a>', "Jane (jane@example.com)"),
        ('<a href="tel:+431234">Call us</a>', "Call us (+431234)"),
        ('<a href="#top">Up</a> <a name="x">here</a> <a href="JavaScript:x()">now</a>', "Up here now"),
        ('<a href="https://x.example"><img src="logo.png" alt="Shop"></a>', "Shop (https://x.example)"),
        ('<a href="https://x.example"><img src="logo.png"></a>', "https://x.example"),
        ('<a href="https://x.example">One', "One (https://x.example)"),
        (
            '<a href="https://x.example">One <a href="https://y.example">two</a>',
            "One (https://x.example) two (https://y.example)",
        ),
        ('<img src="cid:logo" alt="  Our\nlogo ">', "Our logo"),
    ],
)
def test_links_and_images(html, text):
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("Buy:<ul><li>Tea</li> <li>Milk</li></ul>Now", "Buy:\n- Tea\n- Milk\nNow"),
        ("<p>Buy:</p><ol><li>Tea<li>Milk</ol><p>Now</p>", "Buy:\n\n1. Tea\n2. Milk\n\nNow"),
        ("<ul><li>A<ol><li>B</li><li>C</li></ol></li><li>D</li></ul>", "- A\n  1. B\n  2. C\n- D"),
        ("<ul><li><ol><li>A</ol></ul>", "  1. A"),
        ("<ol><li>A</ol><ol><li>B</ol>", "1. A\n1. B"),
        ("<ol>" + "<li>x" * 10 + "<br>y</ol>", "\n".join(f"{n}. x" for n in range(1, 11)) + "\n    y"),
        ("<ul><li><p>A</p><p>B</p></li></ul>", "- A\n\n  B"),
        ("<ul><li></li><li>A</li><li></li></ul>B", "- A\nB"),
        ("<li>Stray</li>", "- Stray"),
        ("<blockquote>One<br>two</blockquote>Three", "> One\n> two\n\nThree"),
        ("</ul></li>Text</blockquote>", "Text"),
        ("<ul><li>" * 20 + "Deep", "      - Deep"),
    ],
)
def test_lists_and_quotes(html, text):
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (
            """<table> <tr> <th>Item</th> <th>Count</th> </tr>
               <tr> <td>Tea</td> <td>3</td> </tr> </table>""",
            "Item | Count\nTea | 3",
        ),
        ("<table><tr><td></td><td>A</td><td> </td><td>B</td></tr></table>", "A | B"),
        ("<table><tr><td><p>Left</p></td><td><p>Right</p></td></tr></table>", "Left\n\nRight"),
        ("Above<table><tr><td><table><tr><td>In</td></tr></table></td></tr></table>Below", "Above\n\nIn\n\nBelow"),
    ],
)
def test_tables(html, text):
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    "unseen",
    [
        "<!-- a > b -->",
        "<!-->",
        "<!--[if mso]><table><tr><td><![endif]-->",
        "<![if !mso]>",
        "<?xml version='1.0'?>",
        "<STYLE type='text/css'>p > a { color: red }</STYLE >",
        "<script>if (a < b) document.write('<p>x</p>')</script>",
        "<script><!-- x(); </script>",
        "<head><meta charset='utf-8'><title>A title</title></head>",
        "<div style='color: red; DISPLAY : none'>x<div>y</div>z<script>x</script></div>",
        "<span hidden>x</span>",
        "<img src='pixel.gif' width=1>",
    ],
)
def test_what_no_reader_sees_is_left_out(unseen):
    assert html_to_text(f"<!DOCTYPE html><html>{unseen}<body>A{unseen}B</body></html>") == "AB"


def test_what_all_but_outlook_see_stays():
    assert html_to_text("<!--[if !mso]><!--><p>Text</p><!--<![endif]-->") == "Text"


def test_preformatted_text_keeps_its_lines_and_spaces():
    html = "Error:<pre>\nTraceback\n  File <b>x</b>\n   1\n\n done</pre>Sorry  for  that"

    assert html_to_text(html) == "Error:\n\nTraceback\n  File x\n   1\n\n done\n\nSorry for that"


def test_a_whole_mail_reads_well():
    html = """
        <!DOCTYPE html>
        <html><head><title>Order</title><style>p { margin: 0 }</style></head>
        <body>
          <h1>Thank you, Jane!</h1>
          <p>Your order <strong>42</strong> is on its way.
             You can <a href="https://shop.example/42">follow it</a>.</p>
          <table>
            <thead><tr><th>Item</th><th>Price</th></tr></thead>
            <tbody><tr><td>Tea</td><td>4&nbsp;€</td></tr><tr><td>Milk</td><td>2&nbsp;€</td></tr></tbody>
          </table>
          <ul><li>Keep it cool</li><li>Drink it soon</li></ul>
          <p>Yours,<br>the shop</p>
        </body></html>
    """

    text = """\
        Thank you, Jane!

        Your order 42 is on its way. You can follow it (https://shop.example/42).

        Item | Price
        Tea | 4 €
        Milk | 2 €

        - Keep it cool
        - Drink it soon

        Yours,
        the shop"""
    assert html_to_text(html) == dedent(text)


@given(st.lists(st.sampled_from(TOKENS)).map("".join))
def test_nothing_upsets_it(html):
    text = html_to_text(html)

    assert text == "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
    assert "\n\n\n" not in text


@given(st.lists(st.text("abc<&>\"'", min_size=1), min_size=1))
def test_escaped_words_come_through(words):
    html = "".join(f"<p>{word.replace('&', '&amp;').replace('<', '&lt;')}</p>" for word in words)

    assert html_to_text(html) == "\n\n".join(words)


@pytest.mark.parametrize("pattern", HOSTILE)
def test_the_time_it_takes_grows_only_with_the_length(pattern):
    html = pattern * (200_000 // len(pattern))
    began = time.process_time()

    html_to_text(html)

    # A tenth of this is usual; what is not linear takes minutes.
    assert time.process_time() - began < 10
