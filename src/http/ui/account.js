// <taskbell-account>: who is signed in, and the button that ends the session.
import { api } from "./api.js";
import { h, openShadowRoot, setAttr, setText } from "./dom.js";
import { who } from "./who.js";

class TaskbellAccount extends HTMLElement {
  connectedCallback() {
    if (!this.button) this.#build();
    this.#load();
  }

  #build() {
    this.nameText = h("b");
    this.roleText = h("span", { class: "muted" });
    this.problem = h("span", { role: "alert", class: "small" });
    this.button = h("button", { type: "button", class: "quiet", onclick: () => this.#signOut() }, "Sign out");
    this.line = h("p", { class: "account", hidden: true }, this.problem, h("span", { class: "who" }, h("span", { class: "sr" }, "Signed in as "), this.nameText, " ", this.roleText), this.button);
    openShadowRoot(this).append(this.line);
  }

  async #load() {
    const caller = await who().catch(() => null);
    // The local user of a server without authentication has not signed in.
    this.line.hidden = !caller || caller.credential === "local";
    if (!caller) return;
    setText(this.nameText, caller.subject);
    setText(this.roleText, caller.role);
    setAttr(this.nameText, "title", caller.subject);
    this.button.hidden = caller.credential !== "session";
  }

  async #signOut() {
    this.button.disabled = true;
    try {
      await api.signOut();
      // The page begins again, so that nothing of this user is left on it.
      location.reload();
    } catch (error) {
      this.button.disabled = false;
      setText(this.problem, `Could not sign out: ${error.message}`);
    }
  }
}

customElements.define("taskbell-account", TaskbellAccount);
