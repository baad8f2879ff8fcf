/** Signing in with a token or an API key, which stays in this tab. */
import { html, useState } from "./html.mjs";
import { get } from "./api.mjs";
import * as session from "./session.mjs";

export function SignIn() {
  const [error, setError] = useState(session.reason());
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target).get("token").trim();
    if (!given) return setError("Give a token or an API key.");
    if (!/^[\x21-\x7e]+$/.test(given)) return setError("A token has visible ASCII characters alone.");
    setBusy(true);
    setError("");
    try {
      const who = await get("v1/whoami", {}, { key: given });
      session.keep(given);
      session.enter(who);
    } catch (problem) {
      setError(problem.status === 401 ? `This is not accepted: ${problem.message}` : problem.message);
      setBusy(false);
    }
  };
  return html`<main class="sign-in" id="main"><form onSubmit=${submit}><h1><span class="mark" aria-hidden="true"></span>Switchyard</h1>
    <p>Sign in to see jobs, workers and queues.</p>
    <label for="token">Token or API key</label>
    <input id="token" name="token" type="password" autocomplete="off" spellcheck="false" autofocus
      aria-describedby="where" aria-invalid=${Boolean(error)} />
    ${error && html`<p class="fault" role="alert">${error}</p>`}
    <button class="primary" disabled=${isBusy}>${isBusy ? "Signing in …" : "Sign in"}</button>
    <p class="quiet" id="where">It stays in this tab and is forgotten when the tab closes. <code>switchyard token</code> makes one,
    and <code>switchyard up</code> prints one when it starts.</p></form></main>`;
}
