/** Keeps a scroller at its end while its reader is there, and offers the way back when not. */

const NEAR_PX = 48;

/** Returns a function that goes to the end. `jump` is the button shown while the end is out of sight. */
export function stickToEnd(scroller, content, jump) {
  let sticks = true;
  let top = 0;
  const near = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
  const toEnd = () => {
    sticks = true;
    jump.hidden = true;
    scroller.scrollTop = scroller.scrollHeight;
  };
  const measure = () => {
    // Only going up means that the reader left: the content may have grown since the page itself went to its end.
    if (scroller.scrollTop < top || !sticks) sticks = near();
    top = scroller.scrollTop;
    jump.hidden = sticks;
  };
  scroller.addEventListener("scroll", measure, { passive: true });
  // Who opens a card or unfolds an output wants to see it, and not the end.
  content.addEventListener("click", (event) => {
    if (event.target.closest("summary, .unfold")) sticks = false;
  });
  const observer = new ResizeObserver(() => (sticks ? toEnd() : measure()));
  observer.observe(content);
  observer.observe(scroller);
  jump.addEventListener("click", toEnd);
  return toEnd;
}
