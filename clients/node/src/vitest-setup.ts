/** A `globalSetup` of vitest: one host for all test files, in place of one for each. */
import { CONTROL_VARIABLE, startHost } from './host.js';

export default async function setup(): Promise<() => Promise<void>> {
  const { line, stop } = await startHost();
  process.env[CONTROL_VARIABLE] = line;
  return stop;
}
