/** Values, and their text. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The value as JSON; TypeError for what JSON cannot say. */
export function encoded(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError(`${String(value)} is no JSON`);
  return text;
}

/** An object out of encoded members; those that are undefined are left out. */
export function object(members: Record<string, string | undefined>): string {
  const present = Object.entries(members).filter(([, text]) => text !== undefined);
  return `{${present.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(',')}}`;
}
