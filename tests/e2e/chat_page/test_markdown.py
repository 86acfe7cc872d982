"""What models write: rendered when it is Markdown, and inert when it is hostile."""

import pytest
from playwright.sync_api import Page, expect

DOCUMENT = """# Title

A *short* paragraph with **bold _and italic_ text**, `code`, ~~struck~~, snake_case_name and 2 * 3 * 4.
See [the site](https://example.org/a_(b)) or https://example.org/x?y=1.

- one
- two
  1. inner
  2. list

     with a paragraph
- [a link](http://example.org)

5. five
6. six

> A quote
> of two lines

| name | price |
|:-----|------:|
| a \\| b | **1** |
| c | 2 |

```python
def f(x):
    return "```" + x

# not a heading
```

---
The end"""

HOSTILE = """<img src=x onerror="window.hacked = 1"> <script>window.hacked = 1</script>

[click](javascript:window.hacked=1) [data](data:text/html,<script>1</script>) ![x](https://evil.example/track.png)

[a](JaVaScRiPt:alert(1)) [b](https://ok.example" onmouseover="window.hacked=1) <a href="javascript:1">c</a>

```html" onload="window.hacked=1
<svg onload=window.hacked=1>
```

| <img src=x onerror=window.hacked=1> |
|---|
| <iframe srcdoc="<script>parent.hacked=1</script>"> |
"""


def test_markdown_becomes_elements(signed_in: Page, backend, send) -> None:
    backend.script(backend.text(DOCUMENT, size=3))
    send("Write")
    expect(signed_in.locator(".spent")).to_be_visible()
    text = signed_in.locator(".markdown")
    expect(text.locator("h3.level-1")).to_have_text("Title")
    expect(text.locator("p > em")).to_have_text("short")
    expect(text.locator("strong").first).to_have_text("bold and italic text")
    expect(text.locator("strong em")).to_have_text("and italic")
    expect(text.locator("p > code")).to_have_text("code")
    expect(text.locator("del")).to_have_text("struck")
    expect(text.locator("p").first).to_contain_text("snake_case_name and 2 * 3 * 4")
    links = text.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert links == ["https://example.org/a_(b)", "https://example.org/x?y=1", "http://example.org"]
    expect(text.locator(":scope > ul > li")).to_have_count(3)
    expect(text.locator("ul ol > li")).to_have_count(2)
    expect(text.locator("ul ol p")).to_have_text(["list", "with a paragraph"])
    expect(text.locator(":scope > ol")).to_have_attribute("start", "5")
    expect(text.locator("blockquote")).to_have_text("A quote\nof two lines")
    expect(text.locator("tbody td")).to_have_text(["a | b", "1", "c", "2"])
    expect(text.locator("td.end").first).to_have_css("text-align", "end")
    expect(text.locator(".code code")).to_have_text('def f(x):\n    return "```" + x\n\n# not a heading')
    expect(text.locator("hr")).to_have_count(1)
    expect(text.locator("p").last).to_have_text("The end")


@pytest.mark.parametrize("document", [DOCUMENT, HOSTILE])
def test_streaming_ends_where_reading_at_once_does(signed_in: Page, backend, send, document: str) -> None:
    backend.script(backend.text(document, size=1))
    send("Write")
    expect(signed_in.locator(".spent")).to_be_visible()
    streamed = signed_in.locator(".markdown").inner_html()
    signed_in.reload()
    expect(signed_in.locator(".spent")).to_be_visible()
    assert signed_in.locator(".markdown").inner_html() == streamed


def test_hostile_text_is_inert(signed_in: Page, backend, send) -> None:
    outside = []
    signed_in.on("request", lambda request: outside.append(request.url) if backend.url not in request.url else None)
    progress = "<img src=x onerror=window.hacked=1>"
    tool = backend.tool("<b>x</b>", {"code": "</code><script>window.hacked=1</script>"}, HOSTILE, progress=progress)
    backend.script(backend.thought(HOSTILE), tool, backend.text(HOSTILE))
    backend.script(backend.fail(HOSTILE))
    send(HOSTILE)
    send(HOSTILE)
    expect(signed_in.locator(".failure")).to_contain_text("onerror")
    signed_in.locator("details").evaluate_all("all => all.forEach(details => { details.open = true })")
    transcript = signed_in.locator("#transcript")
    expect(transcript.locator("img, script, iframe, svg:not(.icon), [onerror], [onload], [onmouseover]")).to_have_count(
        0
    )
    expect(transcript.get_by_text('<img src=x onerror="window.hacked = 1">').first).to_be_visible()
    links = transcript.locator("a").evaluate_all("all => all.map(a => [a.protocol, a.rel])")
    assert links
    assert {protocol for protocol, _ in links} <= {"https:", "http:"}
    assert {rel for _, rel in links} == {"noopener noreferrer nofollow"}
    assert signed_in.evaluate("window.hacked") is None
    assert outside == []


def test_time_grows_no_faster_than_text(signed_in: Page) -> None:
    # A careless pattern searches these in quadratic time or worse: eight times the text would take 64 times as long.
    units = ["**a ", "*a", "***", "`a ``", "`", "[a](", "_a ", "[[[[", "a|", "> ", "- ", "1. ", "~~a", "https://a("]
    units += ["# ", "-", " \t", "- a\n", "> a\n", "a | b\n", "  - a\n\n", "a\n"]
    took = signed_in.evaluate(
        """async (units) => {
            const { renderMarkdown } = await import("/ui/markdown.js");
            const time = (text) => {
                const start = performance.now();
                renderMarkdown(document.createElement("div"), `x ${text}!`);
                return performance.now() - start;
            };
            const best = (text) => Math.min(time(text), time(text), time(text));
            const sized = (unit, size) => unit.repeat(size / unit.length);
            return units.map((unit) => [unit, best(sized(unit, 12_000)), best(sized(unit, 96_000))]);
        }""",
        units,
    )
    assert [(unit, short, long) for unit, short, long in took if long > 150 and long > 32 * short] == []


def test_code_can_be_copied(signed_in: Page, backend, send) -> None:
    signed_in.context.grant_permissions(["clipboard-read", "clipboard-write"])
    backend.script(backend.text("Use this:\n```sh\nmake up\n```"))
    send("How?")
    signed_in.get_by_role("button", name="Copy code").click()
    expect(signed_in.get_by_role("button", name="Copy code")).to_have_text("Copied")
    assert signed_in.evaluate("navigator.clipboard.readText()") == "make up"
