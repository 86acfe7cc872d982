"""How the page fits, reads and scrolls: width, contrast, theme, keyboard, folding, banners."""

import pytest
from playwright.sync_api import Page, expect

WIDE_TEXT = f"""{"unbroken" * 40}

```
{"x = 1; " * 60}
```

| {" | ".join(f"column {n}" for n in range(20))} |
|{"---|" * 20}
| {" | ".join("value" for _ in range(20))} |
"""

# Contrast of every visible text with what is painted behind it, by WCAG 2.2 (1.4.3).
LOW_CONTRAST = """() => {
  const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const over = (top, bottom, a) => top.map((value, i) => value * a + bottom[i] * (1 - a));
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      layers.push(colour);
      if (colour.a === 1) break;
    }
    return layers.reverse().reduce((under, { rgb, a }) => over(rgb, under, a), [255, 255, 255]);
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest(".offscreen, .skip, :disabled")) continue;
    const style = getComputedStyle(node);
    let opacity = 1;
    for (let at = node; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    if (opacity === 0) continue;
    const back = behind(node);
    const front = over(parse(style.color).rgb, back, opacity);
    const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push([node.className || node.tagName, node.textContent.slice(0, 30), ratio.toFixed(2)]);
  }
  return found;
}"""


def fill(page: Page, backend, send) -> None:
    """Every kind of thing that the page can show, at once."""
    backend.health = {
        "status": "warning",
        "checks": [{"name": "sandbox", "status": "warning", "message": "No sandbox."}],
    }
    failing = backend.tool("read_file", {"path": "a" * 200}, "No such file", error="not_found")
    working = backend.tool("run_python", {"code": "print(1)"}, "1\n" * 50, decision="approve")
    note = "\n> A quote with a [link](https://example.org) and `code`.\n"
    backend.script(backend.thought("Hm."), working, failing, backend.text(WIDE_TEXT + note))
    backend.script(backend.fail("It broke."))
    page.goto("/#key=grk_right")
    send("Do everything " + "w" * 200)
    expect(page.locator(".spent")).to_be_visible()
    send("Break")
    expect(page.locator(".failure")).to_be_visible()
    live = backend.tool("run_python", {"code": "1"}, "", progress="working\n", gate="fill")
    backend.script(
        live, backend.tool("run_shell", {"command": "echo " + "x" * 200, "why": "y" * 200}, "", decision="never")
    )
    send("And go on")
    expect(page.locator(".live").last).to_have_text("working\n")
    backend.release("fill")
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    for text in ("Later", "Much later " + "v" * 200, "Last"):
        send(text)
    expect(page.locator("#queue li")).to_have_count(3)
    page.get_by_role("button", name="Edit “Last”").click()
    session = next(iter(backend.sessions.values()))
    backend.call(lambda: session.emit("session.paused", None))
    expect(page.get_by_text("This session is paused.")).to_be_visible()
    expect(page.get_by_text("No sandbox.")).to_be_visible()


@pytest.mark.parametrize("width", [320, 768, 1600])
def test_nothing_is_wider_than_the_window(page: Page, backend, send, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    fill(page, backend, send)
    page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true })")
    overflow = "node => [node.scrollWidth, node.clientWidth]"
    for place in ("html", "#scroller", "#chat", "#composer"):
        inner, outer = page.locator(place).evaluate(overflow)
        assert inner <= outer, place
    outside = """all => all.filter(node => node.checkVisibility()
        && !node.closest('.offscreen, .skip, pre, .table, .tool-hint')
        && node.getBoundingClientRect().right > innerWidth + 1).map(node => node.outerHTML.slice(0, 80))"""
    assert page.locator("#chat *").evaluate_all(outside) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, backend, send, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto("/")
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate(LOW_CONTRAST) == []
    fill(page, backend, send)
    page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true })")
    assert page.evaluate(LOW_CONTRAST) == []
    page.get_by_role("button", name="Keyboard shortcuts").click()
    assert page.evaluate(LOW_CONTRAST) == []


@pytest.mark.parametrize(("system", "other"), [("light", "dark"), ("dark", "light")])
def test_theme_follows_the_system_until_it_is_chosen(signed_in: Page, system: str, other: str) -> None:
    scheme = "getComputedStyle(document.body).backgroundColor"
    painted = {}
    for name in (other, system):
        signed_in.emulate_media(color_scheme=name)
        painted[name] = signed_in.evaluate(scheme)
    assert painted["light"] != painted["dark"]
    signed_in.get_by_role("button", name="Switch between light and dark").click()
    assert signed_in.evaluate(scheme) == painted[other]
    signed_in.reload()
    assert signed_in.evaluate(scheme) == painted[other]


def test_sending_by_keyboard_alone(page: Page, backend) -> None:
    keys = page.keyboard
    page.goto("/")
    keys.type("grk_right")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="What would you like to do?")).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the message box")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the message box")).to_be_in_viewport()
    keys.press("Enter")
    message = page.get_by_label("Message", exact=True)
    expect(message).to_be_focused()
    keys.type("line one")
    keys.press("Shift+Enter")
    keys.type("line two")
    expect(message).to_have_value("line one\nline two")
    backend.script(backend.tool("run_python", {"code": "1"}, "the result"), backend.text("Done."))
    keys.press("Enter")
    expect(page.locator(".spent")).to_be_visible()
    keys.press("Shift+Tab")
    while not page.evaluate("document.activeElement.matches('.tool > summary')"):
        assert page.evaluate("document.activeElement !== document.body"), "the card cannot be reached by Tab"
        keys.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.press("Enter")
    expect(page.get_by_text("the result")).to_be_visible()


def test_shortcuts(signed_in: Page, send) -> None:
    keys = signed_in.keyboard
    message = signed_in.get_by_label("Message", exact=True)
    answer = signed_in.locator(".markdown")
    for text in ("first", "second"):
        keys.press("Alt+n")
        expect(message).to_be_focused()
        keys.type(text)
        keys.press("Enter")
        expect(answer).to_have_text(f"You said: {text}")
    keys.press("Alt+ArrowDown")
    expect(answer).to_have_text("You said: first")
    keys.press("Alt+ArrowDown")
    expect(answer).to_have_text("You said: first")
    keys.press("Alt+ArrowUp")
    expect(answer).to_have_text("You said: second")
    signed_in.get_by_role("button", name="Copy the answer").focus()
    keys.press("?")
    expect(signed_in.get_by_role("dialog")).to_be_visible()
    keys.press("Escape")
    expect(signed_in.get_by_role("dialog")).to_be_hidden()
    keys.press("/")
    expect(message).to_be_focused()
    expect(message).to_have_value("")


def test_sessions_are_a_drawer_on_a_narrow_window(page: Page, backend) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    backend.add_session("Only one")
    page.goto("/#key=grk_right")
    link = page.get_by_role("link", name="Only one")
    expect(link).to_have_count(0)
    menu = page.get_by_role("button", name="Sessions", exact=True)
    menu.click()
    expect(link).to_be_in_viewport()
    expect(page.get_by_role("button", name="New session")).to_be_focused()
    page.keyboard.press("Escape")
    expect(link).to_have_count(0)
    expect(menu).to_be_focused()
    menu.click()
    link.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Only one")
    expect(link).to_have_count(0)


def test_scrolls_along_only_for_who_is_at_the_end(signed_in: Page, backend, send) -> None:
    lines = "\n\n".join(f"Line {n}" for n in range(60))
    backend.script(backend.text(lines), backend.hold("more"), backend.text("\n\n" + lines + "\n\nThe last line"))
    send("Write a lot")
    at_end = "(s) => s.scrollHeight - s.scrollTop - s.clientHeight < 2"
    expect(signed_in.locator(".markdown p", has_text="Line 59")).to_be_in_viewport()
    signed_in.wait_for_function(at_end, arg=signed_in.locator("#scroller").element_handle())
    jump = signed_in.get_by_role("button", name="Jump to latest")
    expect(jump).to_be_hidden()
    signed_in.mouse.move(700, 300)
    signed_in.mouse.wheel(0, -600)
    expect(jump).to_be_visible()
    where = signed_in.locator("#scroller").evaluate("node => node.scrollTop")
    backend.release("more")
    expect(signed_in.locator(".spent")).to_be_attached()
    assert signed_in.locator("#scroller").evaluate("node => node.scrollTop") == where
    jump.click()
    expect(signed_in.locator(".markdown p", has_text="The last line")).to_be_in_viewport()
    expect(jump).to_be_hidden()


def test_opening_a_card_does_not_scroll_it_away(signed_in: Page, backend, send) -> None:
    backend.script(backend.tool("run_python", {"code": "x = 1\n" * 12}, "y\n" * 12), backend.text("Done."))
    send("Run")
    expect(signed_in.locator(".spent")).to_be_visible()
    summary = signed_in.locator(".tool > summary")
    summary.click()
    expect(signed_in.locator(".tool .output")).to_be_visible()
    expect(summary).to_be_in_viewport()


def test_long_output_is_folded(signed_in: Page, backend, send) -> None:
    backend.script(backend.tool("run_python", {"code": "1"}, "\n".join(map(str, range(500)))))
    send("Run")
    signed_in.locator(".tool > summary").click()
    output = signed_in.locator(".tool .output")
    assert output.evaluate("node => node.clientHeight") < 300
    button = signed_in.get_by_role("button", name="Show all 500 lines")
    button.click()
    assert output.evaluate("node => node.clientHeight") > 5000
    signed_in.get_by_role("button", name="Show less").click()
    assert output.evaluate("node => node.clientHeight") < 300


def test_health_banner_says_what_and_can_be_hidden(page: Page, backend) -> None:
    check = {"name": "sandbox", "status": "warning", "message": "User namespaces are not allowed here."}
    backend.health = {"status": "warning", "checks": [{"name": "store", "status": "healthy", "message": "ok"}, check]}
    page.goto("/#key=grk_right")
    banner = page.locator("#health")
    expect(banner).to_contain_text("sandbox: User namespaces are not allowed here.")
    expect(banner).not_to_contain_text("store")
    banner.get_by_role("button", name="Hide this notice").click()
    expect(banner).to_be_hidden()


def test_reduced_motion(page: Page, backend, send) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto("/#key=grk_right")
    backend.script(backend.hold("thinking"))
    send("Think")
    pulse = page.locator(".waiting .pulse")
    expect(pulse).to_be_visible()
    expect(pulse).to_have_css("animation-name", "none")
