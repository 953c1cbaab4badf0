// Loaded before the first paint, so that a chosen theme never flashes the other one. `app.js` writes the choice.
try {
  const chosen = localStorage.getItem("modelengine/theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing goes by the system's theme.
}
