// What every file of the page needs of Preact, and values that components follow.
import { h, render } from "./vendor/preact.js";
import {
  useState,
  useEffect,
  useErrorBoundary,
  useLayoutEffect,
  useRef,
  useMemo,
  useCallback,
} from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { render, useState, useEffect, useErrorBoundary, useLayoutEffect, useRef, useMemo };

/** A value that components follow with `useValue`. */
export class Value {
  constructor(now) {
    this.now = now;
    this.followers = new Set();
  }

  set(now) {
    if (now === this.now) return;
    this.now = now;
    for (const follow of [...this.followers]) follow(now);
  }

  follow(follow) {
    this.followers.add(follow);
    return () => this.followers.delete(follow);
  }
}

export function useValue(value) {
  const [now, set] = useState(value.now);
  useEffect(() => {
    set(value.now);
    return value.follow(set);
  }, [value]);
  return now;
}

/** The latest `call` under one function that never changes. */
export function useStable(call) {
  const held = useRef(call);
  held.current = call;
  return useCallback((...given) => held.current(...given), []);
}

/** Calls at once, then at most once in `pause` ms, and once more after the last call. */
export function throttled(call, pause) {
  let timer = 0;
  let again = false;
  const run = () => {
    call();
    timer = setTimeout(() => {
      timer = 0;
      if (again) {
        again = false;
        run();
      }
    }, pause());
  };
  const throttle = () => {
    if (timer) again = true;
    else run();
  };
  throttle.cancel = () => {
    clearTimeout(timer);
    timer = 0;
    again = false;
  };
  return throttle;
}
