// Keeps what is marked `data-live` as it is now: the page is asked for again every two seconds, and each part
// that the gateway renders otherwise than before takes the place of the old one. Without this, pages stand still.
"use strict";

const EVERY_MS = 2000;
const parser = new DOMParser();
const pulse = document.getElementById("pulse");
const known = new Map();

function parts(page) {
  return page.querySelectorAll("[data-live]");
}

let pressed = false;
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel", "dragend"]) addEventListener(end, () => { pressed = false; }, true);

// Whether somebody is at work in a part: presses a button, types, has typed, or marks text to copy it.
function inUse(part) {
  if (pressed) return true;
  if (part.matches(":has(input:focus, select:focus)")) return true;
  if ([...part.querySelectorAll("input")].some((input) => input.value !== input.defaultValue)) return true;
  const marked = document.getSelection();
  return !marked.isCollapsed && marked.containsNode(part, true);
}

function openKeys(part) {
  return new Set([...part.querySelectorAll("details[open]")].map((one) => one.dataset.key));
}

function replace(part, fresh) {
  const open = openKeys(part);
  const active = document.activeElement;
  const key = part.contains(active) ? active.closest("details")?.dataset.key : undefined;
  for (const one of fresh.querySelectorAll("details")) {
    one.open = open.has(one.dataset.key);
    if (key !== undefined && one.dataset.key === key) queueMicrotask(() => one.querySelector("summary").focus());
  }
  part.replaceWith(fresh);
}

function take(page) {
  const current = new Map([...parts(document)].map((part) => [part.dataset.live, part]));
  for (const fresh of parts(page)) {
    const part = current.get(fresh.dataset.live);
    const text = fresh.outerHTML;
    if (part === undefined || known.get(fresh.dataset.live) === text || inUse(part)) continue;
    known.set(fresh.dataset.live, text);
    replace(part, document.adoptNode(fresh));
  }
  document.title = page.title;
}

function say(words, stale) {
  pulse.textContent = words;
  pulse.classList.toggle("stale", stale);
}

let seen = new Date();

async function look() {
  const answer = await fetch(location.href, { redirect: "manual", signal: AbortSignal.timeout(10000) });
  if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) {
    location.reload(); // the session is over
    return EVERY_MS;
  }
  if (!answer.ok) {
    const again = Number(answer.headers.get("retry-after"));
    throw Object.assign(new Error(`answered ${answer.status}`), { againMs: again * 1000 });
  }
  take(parser.parseFromString(await answer.text(), "text/html"));
  seen = new Date();
  say("live", false);
  return EVERY_MS;
}

async function keepLooking() {
  let waitMs = EVERY_MS;
  if (!document.hidden) {
    try {
      waitMs = await look();
    } catch (error) {
      say(`as of ${seen.toLocaleTimeString()}: no answer since`, true);
      waitMs = Math.max(EVERY_MS, error.againMs || 0);
    }
  }
  setTimeout(keepLooking, waitMs);
}

if (pulse !== null && parts(document).length > 1) {
  for (const part of parts(document)) known.set(part.dataset.live, part.outerHTML);
  say("live", false);
  setTimeout(keepLooking, EVERY_MS);
}
