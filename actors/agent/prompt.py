"""What the model is told before the conversation, and the conversation in the form in which it is sent."""

from dataclasses import replace

from ..core.messages import AssistantMessage, Message, SystemMessage
from .state import SessionState

DEFAULT_SYSTEM = """\
You are a capable assistant working in Greenroom.
Use the tools when they give a better answer than memory: compute with run_python, work with files and programs in
the workspace, keep lasting facts about the user with remember and look them up with recall.
The workspace is a sandbox without network. Say plainly when something cannot be done, and never invent a tool's output.
Answer in the language of the user, briefly, in Markdown."""


def messages_for(state: SessionState, model: str, default_system: str | None) -> tuple[Message, ...]:
    """The session's own system prompt, else the configured one, else Greenroom's; then the transcript.

    Reasoning goes back only to the model it came from: another one refuses what it has not signed.
    """
    system = SystemMessage(state.system or default_system or DEFAULT_SYSTEM)
    return (system, *(_for_model(message, model) for message in state.transcript))


def _for_model(message: Message, model: str) -> Message:
    if isinstance(message, AssistantMessage) and message.reasoning_details and message.model != model:
        return replace(message, reasoning_details=())
    return message
