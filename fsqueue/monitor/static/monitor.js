// Keeps an open page up to date, and adds keys and buttons that copy. All pages work without it.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;
  const body = document.body;
  const up = body.dataset.up;
  root.classList.add("js");

  // Only pages that were fetched from this server become elements.
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("fsqueue", { createHTML: (text) => text })
    : { createHTML: (text) => text };

  const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const store = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private */ } };
  const theme = stored("theme");
  if (theme) root.dataset.theme = theme;
  const flip = () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    store("theme", root.dataset.theme);
  };

  let toasting;
  const toast = (text) => {
    const place = $("#toast");
    place.textContent = text;
    place.classList.add("on");
    clearTimeout(toasting);
    toasting = setTimeout(() => place.classList.remove("on"), 2200);
  };

  // -- updates ------------------------------------------------------------------------------

  const patch = (values) => {
    const places = new Map($$("[data-k]").map((each) => [each.dataset.k, each]));
    for (const [key, text] of Object.entries(values)) {
      const place = places.get(key);
      if (place && place.textContent !== text) place.textContent = text;
    }
  };

  const rowOf = (element) => element && element.closest("tr")?.querySelector("a")?.getAttribute("href");

  const swap = async () => {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(policy.createHTML(await answer.text()), "text/html");
    const selection = getSelection();
    // Do not take away what the reader is selecting or typing.
    if (selection && !selection.isCollapsed && $("main").contains(selection.anchorNode)) return;
    if (document.activeElement?.matches("main input, main select")) return;
    const href = rowOf(document.activeElement);
    const key = document.activeElement?.dataset?.copy;
    const scrolled = new Map($$("main pre, main .scroll").map((each, index) => [index, [each.scrollTop, each.scrollLeft]]));
    $("main").replaceChildren(...page.querySelector("main").childNodes);
    $("nav").replaceChildren(...page.querySelector("nav").childNodes);
    $$("main pre, main .scroll").forEach((each, index) => {
      [each.scrollTop, each.scrollLeft] = scrolled.get(index) || [0, 0];
    });
    const again = href
      ? $$("main tbody a").find((each) => each.getAttribute("href") === href)
      : key && $$("main [data-copy]").find((each) => each.dataset.copy === key);
    if (again) again.focus({ preventScroll: true });
    body.dataset.have = page.body.dataset.have;
  };

  let stream = null;
  let gone = null;
  const live = () => {
    clearTimeout(gone);
    gone = null;
    root.classList.add("is-live");
    root.classList.remove("is-gone");
    if ($("#gone").firstChild) $("#gone").replaceChildren();
  };
  const lost = () => {
    root.classList.remove("is-live");
    gone ||= setTimeout(() => {
      root.classList.add("is-gone");
      const note = document.createElement("p");
      note.textContent = "The monitor does not answer. The numbers below are old. Is `fsqueue monitor` still running, and the tunnel open?";
      $("#gone").replaceChildren(note);
    }, 10000);
  };
  const open = () => {
    if (stream || !body.dataset.stream || document.hidden) return;
    const query = new URLSearchParams({ page: body.dataset.stream, have: body.dataset.have });
    stream = new EventSource(`${up}events?${query}`);
    stream.onopen = live;
    stream.onerror = () => {
      lost();
      if (stream && stream.readyState === EventSource.CLOSED) { close(); setTimeout(open, 2000); }
    };
    stream.addEventListener("patch", (event) => { live(); patch(JSON.parse(event.data)); });
    stream.addEventListener("page", () => { live(); swap().catch(lost); });
    stream.addEventListener("problem", (event) => toast(JSON.parse(event.data).text));
  };
  const close = () => { if (stream) stream.close(); stream = null; };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);

  // The server writes times in this browser's zone once it knows it.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (body.dataset.stream && zone && body.dataset.zone !== zone) {
    document.cookie = `fsqueue-zone=${encodeURIComponent(zone)}; path=/; samesite=strict`;
    if (document.cookie.includes("fsqueue-zone")) swap().catch(lost);
  }
  open();

  // -- copying, and keys --------------------------------------------------------------------

  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); toast(`Copied: ${text}`); } catch { toast(text); }
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button.dataset.copy);
  });
  $("#theme").addEventListener("click", flip);
  $("#help").addEventListener("click", () => $("#keys").showModal());

  const rows = () => $$("main tbody tr").map((row) => $("a", row)).filter(Boolean);
  const move = (step) => {
    const links = rows();
    const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    const next = links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + step))];
    if (next) next.focus();
  };
  const other = (step) => {
    const links = $$("main .seg[aria-label=Window] a");
    const at = links.findIndex((link) => link.hasAttribute("aria-current"));
    const next = at < 0 ? null : links[at + step];
    if (next) next.click();
  };
  const actions = {
    "/": () => $("#q").focus(), d: flip, "?": () => $("#keys").showModal(),
    j: () => move(1), k: () => move(-1), "[": () => other(-1), "]": () => other(1),
    y: () => { const first = $("main [data-copy]"); if (first) copy(first.dataset.copy); },
  };
  let going = false;
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.metaKey || event.ctrlKey || event.altKey || $("dialog[open]")) return;
    if (going) {
      going = false;
      const link = $$("nav a").find((each) => each.dataset.go === event.key);
      if (link) link.click();
      return;
    }
    going = event.key === "g";
    if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
  });
})();
