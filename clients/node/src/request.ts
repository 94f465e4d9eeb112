/** One HTTP request, without redirects, retries or a time-out of its own. */
import { type Agent, request as send } from 'node:http';

export interface Answer {
  status: number;
  /** By name in lower case. */
  headers: Record<string, string>;
  body: Buffer;
}

export interface Outgoing {
  method: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** None: a connection of its own. */
  agent?: Agent;
  signal?: AbortSignal | undefined;
  /** Seconds of silence after which it fails. */
  within?: number;
}

export function request(url: string, { body, agent, signal, within, ...options }: Outgoing): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const content = body === undefined ? undefined : Buffer.from(body as string);
    const headers = { ...options.headers };
    if (content) headers['content-length'] = String(content.length);
    const asked = send(
      url,
      { ...options, headers, agent: agent ?? false, ...(signal && { signal }) },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on('data', (part: Buffer) => parts.push(part));
        answer.on('error', reject);
        answer.on('end', () => {
          const found = Object.entries(answer.headers).map(([name, value]) => [name, String(value)] as const);
          resolve({
            status: answer.statusCode ?? 0,
            headers: Object.fromEntries(found),
            body: Buffer.concat(parts),
          });
        });
      },
    );
    asked.on('error', reject);
    if (within !== undefined) {
      asked.setTimeout(within * 1000, () => asked.destroy(new Error(`${url} did not answer in ${within} s`)));
    }
    asked.end(content);
  });
}
