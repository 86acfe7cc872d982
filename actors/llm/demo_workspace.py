"""Messages to the demo model that ask for a program, a command or a file."""

import re

from .demo_arithmetic import code_of
from .demo_asks import Ask, Talk, UseTool
from .demo_programs import program_for

_FENCE = re.compile(r"```[ \t]*(\w*)[ \t]*\n(.*?)\n?```", re.DOTALL)
_PYTHON_LINE = re.compile(r"^(?:run|execute)?\s*python\s*:\s*(.+)$", re.IGNORECASE | re.DOTALL)
_IN_PYTHON = re.compile(r"^(?:please )?(?:run|execute)\s+`?(.+?)`?\s+(?:in|with|using) python\W*$", re.IGNORECASE)
_SHELL = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^\$\s*(.+)$",
        r"^(?:please )?(?:run|execute)\s+(?:the command\s+)?`([^`]+)`(?: in (?:the |a )?(?:shell|terminal))?\W*$",
        r"^(?:please )?(?:run|execute)\s+(.+?)\s+in (?:the |a )?(?:shell|terminal)\W*$",
        r"^in (?:the |a )?(?:shell|terminal)\s*[,:]?\s*(?:run|execute)?\s*`?([^`]+?)`?$",
        r"^(?:shell|bash|sh)\s*:\s*`?([^`]+?)`?$",
    )
]
_COMPUTE = re.compile(
    r"(?:please )?(?:compute|calculate|calcul[ae]|berechne)\b|.*\b(?:in|with|using) python\W*$", re.IGNORECASE
)


def fenced_program(text: str) -> Ask | None:
    match = _FENCE.search(text)
    if match is None:
        return None
    language, code = match[1].lower(), match[2]
    if language in ("sh", "bash", "shell", "console"):
        return _shell_of(code)
    outside = text[: match.start()].lower()
    if language in ("python", "py", "python3") or (not language and ("python" in outside or code_of(code))):
        return UseTool("run_python", {"code": code})
    return None


def python_line(text: str) -> Ask | None:
    match = _IN_PYTHON.match(text) or _PYTHON_LINE.match(text)
    code = code_of(match[1].strip("` \n")) if match else None
    return UseTool("run_python", {"code": code}) if code else None


def shell_command(text: str) -> Ask | None:
    command = first_group(_SHELL, text)
    return _shell_of(command) if command else None


def _shell_of(command: str) -> UseTool:
    return UseTool("run_shell", {"command": command.strip()})


def computation(text: str) -> Ask | None:
    program = program_for(text)
    if program is not None:
        return UseTool("run_python", {"code": program.code}, says=program.says)
    return Talk("cannot_compute", text) if _COMPUTE.match(text) else None


_PATH = r"[`\"']?([\w./-]*[\w/-])[`\"']?"
_NAMED_FILE = r"(?:the |a |my )?(?:new )?(?:file )?(?:called |named )?"
_WRITE = re.compile(
    rf"^(?:please )?(?:write|save|put|store)\s+(.+?)\s+(?:to|in|into|as)\s+({_NAMED_FILE}){_PATH}\W*$",
    re.IGNORECASE | re.DOTALL,
)
_NAMES_FILE = re.compile(r"\b(?:file|called|named) $", re.IGNORECASE)
_CREATE = re.compile(
    rf"^(?:please )?(?:create|make|write)\s+(?:to\s+)?{_NAMED_FILE}{_PATH}\s*"
    r"(?:with|containing|that says|:)\s*(?:the )?(?:text|content|contents)?\s*:?\s*(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_READ = re.compile(
    rf"^(?:please )?(?:read|show|open|print|cat|display)(?: me)?\s+((?:the |a |my )?file )?(?:the )?{_PATH}\W*$",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"^(?:please )?(?:(?:list|show)(?: me)?(?: all| the| my)* files|(?:what|which) files\b.*|ls)"
    r"(?:\s+(?:in|of|under)\s+(?:the (?:folder|directory) )?[`\"']?([\w./-]+?)[`\"']?)?\W*$",
    re.IGNORECASE,
)


def file_to_write(text: str) -> Ask | None:
    if match := _WRITE.match(text):
        content = _unquoted(match[1])
        # `write a poem to my wife` names no file.
        if content != match[1].strip() or _NAMES_FILE.search(match[2]) or _looks_like_path(match[3]):
            return UseTool("write_file", {"path": match[3], "content": content})
    if (match := _CREATE.match(text)) and _looks_like_path(match[1]):
        return UseTool("write_file", {"path": match[1], "content": _unquoted(match[2])})
    return None


def file_to_read(text: str) -> Ask | None:
    match = _READ.match(text)
    if match is None or not (match[1] or _looks_like_path(match[2])):
        return None
    return UseTool("read_file", {"path": match[2]})


def files_to_list(text: str) -> Ask | None:
    match = _LIST.match(text)
    if match is None:
        return None
    folder = match[1]
    return UseTool("list_files", {"path": folder} if folder and folder not in ("workspace", "the") else {})


def _looks_like_path(word: str) -> bool:
    return "/" in word or re.search(r"\w\.\w{1,8}$", word) is not None


def _unquoted(content: str) -> str:
    content = content.strip()
    fence = _FENCE.fullmatch(content)
    if fence:
        return fence[2] + "\n"
    for quote in ("```", "`", '"', "'"):
        if len(content) > 2 * len(quote) and content.startswith(quote) and content.endswith(quote):
            return content[len(quote) : -len(quote)]
    return content


def first_group(patterns: list[re.Pattern[str]], text: str) -> str | None:
    return next((match[1] for pattern in patterns if (match := pattern.search(text.strip()))), None)
