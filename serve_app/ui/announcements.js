/** What a screen reader is told of an event and the turn that it changed; empty for most. */
export function spoken(event, turn) {
  switch (event.type) {
    case "message.completed":
      return event.content;
    case "message.steered":
      return "Your message was taken into the running turn.";
    case "tool.started":
      return `Running ${event.name}`;
    case "approval.requested":
      return `Waiting for you: allow ${event.name}?`;
    case "approval.resolved":
      return event.decision === "approve" ? "Approved" : "Denied";
    case "approval.expired":
      return event.cancelled ? "" : "Nobody decided in time.";
    case "session.paused":
      return "The session is paused.";
    case "session.resumed":
      return "The session goes on.";
    case "turn.failed":
      return `The turn failed. ${event.error.message}`;
    case "turn.cancelled":
      return turn.begun ? "The turn was stopped." : "The message was withdrawn.";
    default:
      return "";
  }
}
