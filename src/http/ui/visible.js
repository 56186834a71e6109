// Characters that nobody sees but that change how a text reads are shown as marks. Pure functions.

/**
 * Control characters except tab and line feed, the separators of lines and paragraphs, and the characters that change the
 * direction of text: with U+202E, "fdp.exe" reads "exe.pdf".
 */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const hex = (character) => character.charCodeAt(0).toString(16).padStart(4, "0");

/** The text with a mark like ⟨U+202E⟩ in place of each of them. */
export const visible = (text) => text.replace(HIDDEN, (character) => `⟨U+${hex(character).toUpperCase()}⟩`);

/** The JSON text with an escape like \u202e in place of each of them; its value stays the same. */
export const visibleJson = (json) => json.replace(HIDDEN, (character) => `\\u${hex(character)}`);
