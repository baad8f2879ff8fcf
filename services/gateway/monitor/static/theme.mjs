"use strict";
// Before anything is painted. A choice of colours is no secret, so it may outlive the tab.
try {
  const theme = localStorage.getItem("switchyard.theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch { /* the browser keeps nothing: its own preference counts */ }
