// Light, dark, or as the system has it.
import { Value } from "./lib.js";

const KEPT = "iii-console-theme";
const ORDER = ["system", "light", "dark"];

export const theme = new Value(localStorage.getItem(KEPT) ?? "system");

export function apply() {
  if (theme.now === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.now;
}

export function turn() {
  theme.set(ORDER[(ORDER.indexOf(theme.now) + 1) % ORDER.length]);
  localStorage.setItem(KEPT, theme.now);
  apply();
}
