// The little that is needed of a renderer: elements from text nodes, patches that touch only what changed, keyed lists.

/** Creates an element. `on…` props are listeners, the rest attributes; null and false leave one out. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else attr(element, name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function attr(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Writes only what differs, so that selections and live regions are left alone. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Puts one child for each item, in order; moves and makes as few as it can. Answers the children by key. */
export function keyed(parent, items, key, create, update) {
  const known = (parent.__keyed ??= new Map());
  const kept = new Set(items.map(key));
  for (const [id, child] of known) {
    if (kept.has(id)) continue;
    child.remove();
    known.delete(id);
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    let child = known.get(id);
    if (!child) known.set(id, (child = create(item)));
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  return known;
}

// The sheet is there before the first element is defined, so nothing is ever seen without it.
const sheet = new CSSStyleSheet();
await sheet.replace(await (await fetch(new URL("style.css", import.meta.url))).text());

/** An open shadow root with the shared sheet. */
export function root(host) {
  const shadow = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  shadow.adoptedStyleSheets = [sheet];
  return shadow;
}
