// Runs before the first paint, so that a remembered theme does not flash; the toggle is in app.js.
"use strict";
{
  const theme = localStorage.getItem("greenroom.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
