// A small renderer: it creates elements, changes only what differs, and updates lists by key. All text of a page goes
// through it, so that no text can hide characters or change its direction.
import { visible } from "./visible.js";

/** Attributes that people read or hear. */
const TEXT_ATTRIBUTES = new Set(["aria-label", "title", "placeholder", "data-tip"]);

/** Creates an element. Props that begin with `on` are listeners, the others are attributes. An attribute with the value null or false is omitted. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else setAttr(element, name, value);
  }
  element.append(...nodes(children));
  return element;
}

/** The elements and texts among the children. Null is omitted. */
const nodes = (children) =>
  children.flat().filter((child) => child !== null && child !== undefined).map((child) => (typeof child === "string" ? visible(child) : child));

/** Replaces all children. */
export function setChildren(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Sets the attribute only if it differs. Null and false remove it. */
export function setAttr(element, name, value) {
  if (value === null || value === undefined || value === false) return element.removeAttribute(name);
  const text = value === true ? "" : TEXT_ATTRIBUTES.has(name) ? visible(String(value)) : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Sets the text only if it differs. So a selection stays, and a screen reader doesn't repeat the text. */
export function setText(element, value) {
  const text = visible(String(value));
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Gives the parent one child for each item, in order. A child whose key is still present is reused. Returns the children by
 * key.
 */
export function updateChildren(parent, items, key, create, update) {
  const children = (parent.__childrenByKey ??= new Map());
  const wantedKeys = new Set(items.map(key));
  for (const [id, child] of children) {
    if (wantedKeys.has(id)) continue;
    child.remove();
    children.delete(id);
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    let child = children.get(id);
    if (!child) children.set(id, (child = create(item)));
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  return children;
}

// The style sheet is loaded before the first element is defined, so no element is shown without styles.
const sheet = new CSSStyleSheet();
await sheet.replace(await (await fetch(new URL("style.css", import.meta.url))).text());

/** Returns the open shadow root of the element, with the shared style sheet. */
export function openShadowRoot(host) {
  const shadow = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  shadow.adoptedStyleSheets = [sheet];
  return shadow;
}
