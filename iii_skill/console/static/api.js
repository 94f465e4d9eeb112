// The questions to the console's own port. The token comes in the fragment of the address, which no browser
// sends anywhere, and goes out as a header.
import { Value } from "./lib.js";

const KEPT = "iii-console-token";
const FRAGMENT = /^#token=([\w-]+)$/;

let token = "";
export const locked = new Value(false);
export const about = new Value(null);

export class Problem extends Error {
  constructor(fields) {
    super(fields.message);
    Object.assign(this, fields);
  }
}

/** Take the token out of the address, so that it is neither seen nor in the history. */
export function takeToken(back = "#/state") {
  const found = FRAGMENT.exec(location.hash);
  if (found) {
    useToken(found[1]);
    history.replaceState(null, "", back);
  } else if (!token) {
    token = sessionStorage.getItem(KEPT) ?? "";
    if (!token) locked.set(true);
  }
}

export function useToken(given) {
  token = given.trim().replace(/^.*#token=/, "");
  sessionStorage.setItem(KEPT, token);
  locked.set(false);
}

export function headers() {
  return { authorization: `Bearer ${token}` };
}

/** The token was refused that these headers carry: ask for another one, unless it was given meanwhile. */
export function refused(sent) {
  if (sent.authorization === headers().authorization) locked.set(true);
}

/** The answer to a question; throws a Problem with `code` and `message`. */
export async function ask(name, fields = {}, signal = undefined) {
  let response;
  const sent = headers();
  try {
    response = await fetch(`/api/${name}`, {
      method: "POST",
      headers: sent,
      body: JSON.stringify(fields),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", message: "The console does not answer. Does it still run?" });
  }
  const answer = await response.json();
  if (response.status === 401) refused(sent);
  if (answer.error) throw new Problem(answer.error);
  return answer;
}

/** Call a function of the host; the answer is read, so this is for listings, never for values. */
export async function listing(functionId, payload = {}) {
  const answer = await ask("call", { function_id: functionId, text: JSON.stringify(payload) });
  return answer.text === null ? null : JSON.parse(answer.text, exact);
}

/** A number that JavaScript would change is shown as it came, where the browser can. */
function exact(_name, value, context) {
  const source = context?.source;
  const kept = typeof value !== "number" || !source || String(value) === source || !JSON.rawJSON;
  return kept ? value : JSON.rawJSON(source);
}

export async function askAbout() {
  const answer = await ask("about");
  about.set({ label: answer.label, offers: new Set(answer.offers) });
}
