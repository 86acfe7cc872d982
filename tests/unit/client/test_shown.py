"""What a reader of previews has seen already is not shown again, and text is never garbled."""

import pytest

from serve_app.calls import Item, Shown


def delta(text: str, offset: int) -> Item:
    return Item("message.delta", None, {"message_id": "msg_1", "offset": offset, "text": text})


def whole(text: str) -> Item:
    return Item("message.completed", 9, {"message_id": "msg_1", "content": text})


@pytest.mark.parametrize(
    ("items", "texts"),
    [
        ([delta("Hel", 0), delta("lo", 3), whole("Hello")], ["Hel", "lo", ""]),
        ([delta("Hel", 0), delta("Hello", 0), delta("!", 5), whole("Hello!")], ["Hel", "lo", "!", ""]),
        ([delta("Hello", 0), delta("Hel", 0), delta("lo!", 3)], ["Hello", "", "!"]),
        ([delta("Hel", 0), delta("after a gap", 10), whole("Hello")], ["Hel", "", "lo"]),
        ([whole("Hello")], ["Hello"]),
    ],
    ids=["in order", "replayed and longer", "replayed and shorter", "a gap", "no previews"],
)
def test_shows_each_character_once(items, texts):
    shown = Shown()
    assert [shown.take(item) for item in items] == texts


def test_text_that_was_started_over_waits_for_the_whole():
    shown = Shown()
    assert [shown.take(item) for item in (delta("Hello wor", 0), delta("Bye", 0), delta(" all of you", 3))] == [
        "Hello wor",
        "",
        "",
    ]
    assert shown.differs(whole("Bye all of you"))


def test_messages_and_tools_are_told_apart():
    shown = Shown()
    shown.take(delta("text", 0))
    output = Item("tool.progress", None, {"tool_call_id": "msg_1", "offset": 0, "text": "output"})
    assert shown.take(output) == "output"
    assert not shown.differs(whole("text and more"))
