// Listings that are asked for again and again, while somebody looks at them.
import { useEffect, useState, useStable } from "./lib.js";

const PAUSE_MS = 2500;

/** What `ask` gives, asked anew in a while: { data, problem, again }. */
export function usePolled(ask, inputs = []) {
  const [answer, setAnswer] = useState({ data: null, problem: null });
  const latest = useStable(ask);
  const again = useStable(async () => {
    try {
      setAnswer({ data: await latest(), problem: null });
    } catch (problem) {
      setAnswer((before) => ({ ...before, problem }));
    }
  });
  useEffect(() => {
    let over = false;
    let timer = 0;
    const turn = async () => {
      if (document.visibilityState === "visible") await again();
      if (!over) timer = setTimeout(turn, PAUSE_MS);
    };
    turn();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, inputs);
  return { ...answer, again };
}
