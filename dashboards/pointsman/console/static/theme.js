// Light or dark: remembered in a cookie, so that the server draws charts in the right colours.
(() => {
  const COOKIE = "pointsman_theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const said = () => (document.cookie.match(/(?:^|; )pointsman_theme=([a-z-]+)/) || [])[1] || "";
  const choice = () => (["light", "dark"].includes(said()) ? said() : "auto");
  const resolved = (chosen) => (chosen === "auto" ? (system.matches ? "auto-dark" : "auto-light") : chosen);
  const keep = (chosen) => {
    const value = resolved(chosen);
    const changed = value !== said();
    document.cookie = `${COOKIE}=${value}; path=/; max-age=31536000; samesite=strict`;
    return changed;
  };
  // The log-in page is coloured by its style sheet alone: a reload would empty its form.
  const recolour = () => {
    if (!document.querySelector(".pm-login")) window.location.reload();
    else document.documentElement.dataset.scheme = said().endsWith("dark") ? "dark" : "light";
  };
  const first = said() === "";
  if (keep(choice()) && !first) recolour();
  system.addEventListener("change", () => keep(choice()) && recolour());
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const order = ["auto", "light", "dark"];
    keep(order[(order.indexOf(choice()) + 1) % 3]);
    window.location.reload();
  });
})();
