"""What the demo model understands, sentence by sentence."""

import io
from contextlib import redirect_stdout

import pytest

from actors.llm.demo_asks import Talk, UseTool
from actors.llm.demo_intents import asks_of


def shell(command: str) -> UseTool:
    return UseTool("run_shell", {"command": command})


def python(code: str) -> UseTool:
    return UseTool("run_python", {"code": code})


def write(path: str, content: str) -> UseTool:
    return UseTool("write_file", {"path": path, "content": content})


def read(path: str) -> UseTool:
    return UseTool("read_file", {"path": path})


def remember(text: str) -> UseTool:
    return UseTool("remember", {"text": text})


def recall(query: str) -> UseTool:
    return UseTool("recall", {"query": query})


LIST = UseTool("list_files", {})


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("compute the 20th Fibonacci number", "6765"),
        ("What is the tenth Fibonacci number?", "55"),
        ("fibonacci(30)", "832040"),
        ("the first 8 fibonacci numbers", "1 1 2 3 5 8 13 21"),
        ("what is 2**100", str(2**100)),
        ("What's 2 ^ 10?", "1024"),
        ("1+1", "2"),
        ("(3 + 4) * -2 =", "-14"),
        ("how much is 12 times 12?", "144"),
        ("calculate 7 divided by 2", "3.5"),
        ("compute 12 squared", "144"),
        ("what is 1,000 plus 24", "1024"),
        ("compute 2+2 in python", "4"),
        ("quanto é 2 mais 2?", "4"),
        ("was ist 3 mal 4", "12"),
        ("3 \u00d7 4", "12"),
        ("what is 7 mod 4", "3"),
        ("sum of primes below 1000", "76127"),
        ("what's the sum of all primes below 1,000?", "76127"),
        ("sum of the primes up to 7", "17"),
        ("how many primes are there below 100", "25"),
        ("list the primes below 20", "2 3 5 7 11 13 17 19"),
        ("the first 5 primes", "2 3 5 7 11"),
        ("What is the 10th prime?", "29"),
        ("is 97 prime?", "prime"),
        ("is 1 a prime number?", "not prime"),
        ("factorise 360", "2 x 2 x 2 x 3 x 3 x 5"),
        ("factorial of 30", "265252859812191058636308480000000"),
        ("5!", "120"),
        ("mean of 3, 5 and 10", "6"),
        ("what is the average of [1, 2.5, 4]?", "2.5"),
        ("median of 5, 1, 3", "3"),
        ("max of 3, 9, 4", "9"),
        ("sum of 1, 2, 3 and 4", "10"),
        ("product of 2, 3, 7", "42"),
        ("sort 3, -1, 2", "-1 2 3"),
        ("sum of the numbers from 1 to 100", "5050"),
        ("sum of squares from 1 to 10", "385"),
        ("gcd of 12 and 18", "6"),
        ("least common multiple of 4 and 6", "12"),
        ("square root of 16", "4.0"),
        ("15% of 80", "12.0"),
        ("What is 15 percent of 80?", "12.0"),
        ("compute the factorial of 2000", None),
    ],
)
def test_arithmetic_becomes_a_program_that_is_right(message, printed):
    [ask] = asks_of(message)
    assert isinstance(ask, UseTool)
    assert ask.tool == "run_python"
    if printed is not None:
        output = io.StringIO()
        with redirect_stdout(output):
            exec(ask.arguments["code"], {})
        assert output.getvalue().strip() == printed
    assert "{}" in ask.says


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("```python\nprint('a')\nprint('b')\n```", [python("print('a')\nprint('b')")]),
        ("Please run this:\n```python\nx = 1\n```\nand tell me", [python("x = 1")]),
        ("run this python code\n```\nprint(1)\n```", [python("print(1)")]),
        ("```sh\nls\n```", [shell("ls")]),
        ("run print(1+1) in python", [python("print(1+1)")]),
        ("run `1+1` in python", [python("print(1+1)")]),
        ("python: print('then')", [python("print('then')")]),
        ("run `ls -la`", [shell("ls -la")]),
        ("Execute `uname -a` in the shell.", [shell("uname -a")]),
        ("$ echo hi | wc -c", [shell("echo hi | wc -c")]),
        ("run ls -la in the shell", [shell("ls -la")]),
        ("in the shell: df -h", [shell("df -h")]),
        ('write "hello" to notes.txt', [write("notes.txt", "hello")]),
        ("write hello world to notes.txt", [write("notes.txt", "hello world")]),
        ("save 'a then b' as data/x.csv", [write("data/x.csv", "a then b")]),
        ("create a file todo.md with content buy milk", [write("todo.md", "buy milk")]),
        ("create the file a.py with:\n```python\nprint(1)\n```", [write("a.py", "print(1)\n")]),
        ("write `x` to a file called notes", [write("notes", "x")]),
        ("read notes.txt", [read("notes.txt")]),
        ("Show me the file `data/x.csv`.", [read("data/x.csv")]),
        ("read the file Makefile", [read("Makefile")]),
        ("list files", [LIST]),
        ("What files are there?", [LIST]),
        ("list the files in data", [UseTool("list_files", {"path": "data"})]),
        ("remember that my dog is called Rex", [remember("The user's dog is called Rex.")]),
        ("Remember: I am allergic to nuts!", [remember("The user is allergic to nuts.")]),
        ("please remember I like tea", [remember("The user said: I like tea.")]),
        ("my name is Ana", [remember("The user's name is Ana.")]),
        ("Hello, my name is Ana-Maria", [remember("The user's name is Ana-Maria.")]),
        ("meu nome é João", [remember("The user's name is João.")]),
        ("Ich heiße Jürgen.", [remember("The user's name is Jürgen.")]),
        ("what is my name?", [recall("what is my name?")]),
        ("What do you know about me?", [recall("What do you know about me?")]),
        ("recall my dog", [recall("recall my dog")]),
        ("who am I", [recall("who am I")]),
        ("do you remember my dog?", [recall("do you remember my dog?")]),
        (
            "write hello to notes.txt and then read notes.txt",
            [write("notes.txt", "hello"), read("notes.txt")],
        ),
        ("list files, then run `wc -c a`; then 1+1", 3),
        ("run `echo a and then b`", [shell("echo a and then b")]),
        (
            "remember that I am tall and then sing a song",
            [remember("The user is tall."), Talk("other", "sing a song")],
        ),
    ],
)
def test_asks(message, expected):
    asks = asks_of(message)
    if isinstance(expected, int):
        assert len(asks) == expected
        assert all(isinstance(ask, UseTool) for ask in asks)
    else:
        assert asks == expected


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("hi", "greeting"),
        ("Hello there!", "greeting"),
        ("Olá!", "greeting"),
        ("Guten Tag", "greeting"),
        ("what can you do?", "help"),
        ("help", "help"),
        ("who are you?", "help"),
        ("thanks!", "thanks"),
        ("what did I say before?", "history"),
        ("what was my first question?", "history"),
        ("calculate the weather", "cannot_compute"),
        ("sort my mail with python", "cannot_compute"),
        ("2026-11-22", "other"),
        ("call 555-1234 for me", "other"),
        ("I have 2 cats and 3 dogs", "other"),
        ("what is love?", "other"),
        ("write a poem to my wife", "other"),
        ("show me the money", "other"),
        ("what is 1 / (", "other"),
        ("", "other"),
        ("and then", "other"),
    ],
)
def test_talk(message, kind):
    [ask] = asks_of(message)
    assert isinstance(ask, Talk)
    assert ask.kind == kind


@pytest.mark.parametrize(
    "message",
    [
        "write " + " " * 1_000_000,
        "(" * 1_000_000,
        "write a to " * 100_000,
        "1+" * 500_000,
        "```\n" * 200_000,
        "9" * 4000,
    ],
    ids=["spaces", "brackets", "words", "sums", "fences", "digits"],
)
@pytest.mark.timeout(2)
def test_hostile_messages_take_no_time(message):
    assert asks_of(message)
