// <taskbell-sign-in>: the form for a token. The server exchanges the token for a session, whose cookie scripts can't read. The
// token itself is kept nowhere.
import { api } from "./api.js";
import { h, openShadowRoot, setText } from "./dom.js";
import { icon } from "./icons.js";

class TaskbellSignIn extends HTMLElement {
  #isSending = false;

  connectedCallback() {
    if (!this.input) this.#build();
    this.input.focus();
  }

  #build() {
    this.errorText = h("p", { class: "banner", role: "alert", hidden: true });
    // Without a name, no browser puts the token into an address, also if this script has failed.
    this.input = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "hint" });
    this.button = h("button", { type: "submit", class: "primary" }, "Sign in");
    const form = h("form", { class: "card pad sign-in", method: "post", onsubmit: (event) => this.#submit(event) },
      h("h1", null, "Sign in"), h("p", { class: "muted", role: "status" }, this.getAttribute("reason") ?? ""),
      h("label", { for: "token" }, "Token"), this.input,
      h("p", { class: "small muted", id: "hint" }, "An admin makes tokens with ", h("code", null, "taskbell token create"), ". They begin with tb_."),
      this.errorText, this.button);
    openShadowRoot(this).append(form);
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isSending) return;
    this.#isSending = true;
    this.button.disabled = true;
    this.errorText.hidden = true;
    try {
      await api.signIn(this.input.value.trim());
      this.input.value = "";
      // The page begins again, so that nothing of another user is left on it. The address stays.
      location.reload();
    } catch (error) {
      this.#showError(error.status === 401 ? "This token isn't valid: it is mistyped, expired or revoked." : `Could not sign in: ${error.message}`);
    }
    this.#isSending = false;
    this.button.disabled = false;
  }

  #showError(text) {
    this.errorText.replaceChildren(icon("failed"), h("span"));
    setText(this.errorText.lastElementChild, text);
    this.errorText.hidden = false;
    this.input.focus();
    this.input.select();
  }
}

customElements.define("taskbell-sign-in", TaskbellSignIn);
