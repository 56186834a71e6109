// Line icons, 16 × 16, drawn with the text's colour.
const NS = "http://www.w3.org/2000/svg";

const PATHS = {
  bell: ["M8 1.8a4.2 4.2 0 0 0-4.2 4.2c0 3.9-1.5 5-1.5 5h11.4s-1.5-1.1-1.5-5A4.2 4.2 0 0 0 8 1.8Z", "M6.6 13.4a1.6 1.6 0 0 0 2.8 0"],
  scheduled: ["M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z", "M8 4.8V8l2.2 1.6"],
  queued: ["M4.5 2.5h7M4.5 13.5h7", "M5.2 2.5c0 3 2.8 3.6 2.8 5.5s-2.8 2.5-2.8 5.5M10.8 2.5c0 3-2.8 3.6-2.8 5.5s2.8 2.5 2.8 5.5"],
  running: ["M14 8a6 6 0 1 1-4.2-5.7"],
  cancelling: ["M5 8h6", "M14 8a6 6 0 1 1-4.2-5.7"],
  retrying: ["M13.4 6.2A5.7 5.7 0 0 0 3 5.4M2.6 9.8A5.7 5.7 0 0 0 13 10.6", "M2.8 2.6v3h3M13.2 13.4v-3h-3"],
  succeeded: ["M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z", "m5.4 8.2 1.8 1.8 3.4-3.8"],
  failed: ["M8 2.2 14.4 13.4H1.6Z", "M8 6.4v3.2M8 11.4v.1"],
  cancelled: ["M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z", "M3.8 3.8l8.4 8.4"],
  cross: ["m4.4 4.4 7.2 7.2M11.6 4.4l-7.2 7.2"],
  copy: ["M5.5 5.5h8v8h-8Z", "M10.5 5.5v-3h-8v8h3"],
  search: ["M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9Z", "m10.4 10.4 3.4 3.4"],
  up: ["M8 13V3.4M4 7.2 8 3.2l4 4"],
  again: ["M13 8a5 5 0 1 1-1.6-3.7", "M13.2 1.8v3h-3"],
  back: ["M9.8 3.4 5.2 8l4.6 4.6"],
};

/** A decorative icon. The text beside it or the label of its button has the meaning for screen readers. */
export function icon(name) {
  const svg = document.createElementNS(NS, "svg");
  for (const [attribute, value] of [["viewBox", "0 0 16 16"], ["aria-hidden", "true"], ["class", `icon i-${name}`]]) svg.setAttribute(attribute, value);
  for (const d of PATHS[name] ?? PATHS.scheduled) {
    const path = document.createElementNS(NS, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
