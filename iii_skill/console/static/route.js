// Where the page is: the fragment of the address, as #/state/SCOPE/KEY.
import { Value } from "./lib.js";

export const route = new Value(read());

function read() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return ["state"];
  }
}

export function address(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(...parts) {
  location.hash = address(...parts);
}

export function watchRoute() {
  route.set(read());
  addEventListener("hashchange", () => {
    if (!location.hash.startsWith("#token=")) route.set(read());
  });
}
