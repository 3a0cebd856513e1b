// Light or dark: remembered in a cookie, so that the server draws charts in the right colours.
(() => {
  const COOKIE = "pointsman_theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const said = () => (document.cookie.match(/(?:^|; )pointsman_theme=([a-z-]+)/) || [])[1] || "";
  const choice = () => (["light", "dark"].includes(said()) ? said() : "auto");
  const resolved = (chosen) => (chosen === "auto" ? (system.matches ? "auto-dark" : "auto-light") : chosen);
  // Never by a reload, but where somebody asks: that would empty forms. Style sheets follow the system by themselves,
  // what the server has drawn does with the next page.
  const keep = (chosen) => {
    const value = resolved(chosen);
    document.cookie = `${COOKIE}=${value}; path=/; max-age=31536000; samesite=strict`;
    const root = document.documentElement;
    if (root.dataset.scheme) root.dataset.scheme = value.endsWith("dark") ? "dark" : "light";
  };
  keep(choice());
  system.addEventListener("change", () => keep(choice()));
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const order = ["auto", "light", "dark"];
    keep(order[(order.indexOf(choice()) + 1) % 3]);
    window.location.reload();
  });
})();
