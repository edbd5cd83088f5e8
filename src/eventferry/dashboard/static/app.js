// What a page does beyond links and forms: all of it works without this, but for following live.
"use strict";

document.documentElement.classList.add("scripts"); // shows what does nothing without

const page = () => document.getElementById("page");
const dialog = () => document.getElementById("dialog");

function remember(name, value) {
  const path = document.querySelector(".brand")?.getAttribute("href") || "/";
  document.cookie = `${name}=${encodeURIComponent(value)}; path=${path}; max-age=31536000; samesite=strict`;
}

function remembered(name) {
  const found = document.cookie.split("; ").find((cookie) => cookie.startsWith(`${name}=`));
  return found && decodeURIComponent(found.slice(name.length + 1));
}

// Times are shown in the viewer's zone by the server: so that nothing jumps, it is told once.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && remembered("zone") !== zone) {
  remember("zone", zone);
  if (remembered("zone") === zone) addEventListener("load", () => page() && htmx.trigger(page(), "refresh"));
}

// Who fills in what he looks for would lose it to the next refresh.
function isFilledIn(field) {
  if (field.type === "hidden") return false;
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
}

// Who is about to choose, to answer or to copy is not disturbed by what is new.
function isBusy() {
  const selected = getSelection();
  return (
    dialog()?.open ||
    [...(page()?.querySelectorAll("input, select") || [])].some(isFilledIn) ||
    (selected && !selected.isCollapsed && page()?.contains(selected.anchorNode))
  );
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt === page() && isBusy()) event.preventDefault();
});

// A store that is away answers with another status, and the page says why: shown as well.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target === page() && isBusy()) {
    event.detail.shouldSwap = false; // he has begun since it was asked for
    return;
  }
  if (event.detail.xhr.status >= 400) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

async function fetched(address) {
  const answer = await fetch(address, { headers: { "HX-Request": "true" } });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// What a line would do is asked of the line itself: that takes a moment.
async function ask(link) {
  const waiting = document.createElement("p");
  waiting.className = "card";
  waiting.textContent = `${link.textContent.trim()} …`;
  dialog().replaceChildren(waiting);
  dialog().showModal();
  const found = await fetched(link.href).catch(() => null);
  const content = found?.getElementById("question") || found?.querySelector("main > *");
  if (!waiting.isConnected || !dialog().open) return;
  if (!content) {
    location.href = link.href;
    return;
  }
  dialog().replaceChildren(content);
  dialog().querySelector("input:not([type=hidden]), button, a")?.focus();
}

let asked = 0;
async function replan(form) {
  const number = ++asked;
  const said = new URLSearchParams(new FormData(form));
  for (const own of ["form", "planned"]) said.delete(own);
  const plan = form.querySelector(".plan");
  plan?.setAttribute("aria-busy", "true");
  const found = await fetched(`${form.getAttribute("action")}?${said}`).catch(() => null);
  if (number !== asked || !found) return;
  plan?.removeAttribute("aria-busy");
  const question = found.getElementById("question");
  if (!question) {
    plan?.querySelector("pre, p").replaceWith(found.querySelector("main p") || "");
    return;
  }
  for (const part of [".plan", ".line"]) {
    if (form.querySelector(part)) form.querySelector(part).replaceWith(question.querySelector(part));
  }
  form.elements.planned.value = question.querySelector("[name=planned]").value;
  form.querySelectorAll("[data-option]").forEach(fillIn); // what was written meanwhile
}

document.addEventListener("change", (event) => {
  if (event.target.matches?.("[data-replan]")) replan(event.target.form);
});

// What has been unfolded or copied stays so when the page is brought up to date.
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name) => name !== "open" && name !== "data-done";

// Who comes back to a page sees it as it is now, with buttons that can be pressed.
addEventListener("pageshow", (event) => event.persisted && location.reload());

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest?.(selector);
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button);
  if (at("[data-close]")) at("[data-close]").parentElement.remove();
  if (at("[data-cancel]") && dialog()?.open) {
    event.preventDefault();
    dialog().close();
  }
  if (at("a[data-dialog]") && plain) {
    event.preventDefault();
    ask(at("a[data-dialog]"));
  }
  if (at("[data-select]")) {
    const all = [...at("form").querySelectorAll("input[type=checkbox]")];
    const chosen = all.some((box) => !box.checked);
    for (const box of all) box.checked = chosen;
  }
  if (at("[data-theme-switch]")) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (document.documentElement.dataset.theme || dark) === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    remember("theme", next);
  }
  if (at("[data-copy]")) {
    const button = at("[data-copy]");
    navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent).then(
      () => { button.dataset.done = "copied"; },
      () => { button.dataset.done = "the browser does not allow it"; },
    );
  }
});

document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-dialog]")) {
    event.preventDefault();
    const said = new URLSearchParams(new FormData(event.target));
    const action = event.submitter?.getAttribute("formaction") || event.target.getAttribute("action");
    ask({ href: `${action}?${said}`, textContent: event.submitter?.textContent || "" });
    return;
  }
  // one press is one command, however long it takes
  for (const button of event.target.querySelectorAll("button:not([type=button])")) button.disabled = true;
});

// The line beside a button, as it is with what has been filled in.
function fillIn(field) {
  const code = field.form.querySelector(".line code");
  if (!code) return;
  const { option } = field.dataset;
  const quoted = `'${field.value.replaceAll("'", `'"'"'`)}'`;
  const bare = code.textContent.replace(new RegExp(` ${option} ('(?:[^']|'"'"')*'|\\S+)`), "");
  const yes = bare.endsWith(" --yes") ? " --yes" : "";
  const start = bare.slice(0, bare.length - yes.length);
  code.textContent = field.value || field.required ? `${start} ${option} ${field.value ? quoted : "…"}${yes}` : bare;
}

document.addEventListener("input", (event) => {
  const chosen = document.getElementById(event.target.dataset?.chooses);
  if (chosen) chosen.checked = true;
  if (event.target.matches?.("[data-option]")) fillIn(event.target);
});
