/** The process that runs engines: `iii-skill serve --control`, one for all engines of this process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { Control } from './control.js';
import { Output } from './output.js';

const PROTOCOL = 1;
const START_SECONDS = 180;
/** Hands a running host on to the processes that this one starts. */
export const CONTROL_VARIABLE = 'III_SKILL_CONTROL';

interface Ready {
  control?: { url: string; token: string; protocol: number };
}

const place = globalThis as { [key: symbol]: Promise<Control> | undefined };
const HOST = Symbol.for('iii-skill-test.host');

/** The control port of the host of this process, which is started when there is none. */
export function control(): Promise<Control> {
  const given = process.env[CONTROL_VARIABLE];
  const found = (place[HOST] ??= given
    ? Promise.resolve(controlOf(given))
    : startHost().then((one) => one.control));
  found.catch(() => {
    if (place[HOST] === found) place[HOST] = undefined;
  });
  return found;
}

/** Start a host that ends with this process, or when `stop` is called. */
export async function startHost(): Promise<{ control: Control; line: string; stop: () => Promise<void> }> {
  const commands = hostCommands();
  for (const [at, command] of commands.entries()) {
    const host = await start(command).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' && at + 1 < commands.length) return undefined;
      if (error.code !== 'ENOENT') throw error;
      throw new Error(
        `No engine: ${commands.map(([program]) => program).join(' and ')} cannot be started. Install iii-skill ` +
          'or uv (https://docs.astral.sh/uv), or set III_SKILL to the command that runs it.',
      );
    });
    if (host) return host;
  }
  throw new Error('unreachable');
}

async function start([program = '', ...first]: string[]) {
  const options = [
    '--control',
    '--adapter',
    'memory',
    '--port',
    '0',
    '--http-port',
    '0',
    '--log-level',
    'warning',
  ];
  const env = { ...process.env };
  // Engines of tests are on loopback alone and want no token.
  for (const name of ['III_SKILL_TOKEN', 'III_SKILL_TOKEN_FILE']) delete env[name];
  const child = spawn(program, [...first, 'serve', ...options, '--ready-json', '--until-eof'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env,
  });
  const errors = new Output(child.stderr);
  const line = await firstLine(child, errors);
  let found: Control;
  try {
    found = controlOf(line);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  // It ends with this process and does not keep it: the end of its stdin tells it.
  child.unref();
  for (const stream of [child.stdin, child.stdout, child.stderr])
    (stream as unknown as { unref(): void }).unref();
  found.lost = new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      place[HOST] = undefined;
      resolve(`the host of the engines ended (${String(signal ?? code)}): ${errors.text.trim()}`);
    });
  });
  const stop = async () => {
    child.ref();
    child.stdin.end();
    await found.lost;
  };
  return { control: found, line, stop };
}

function firstLine(child: ChildProcess, errors: Output): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const give = (settle: () => void) => {
      clearTimeout(timer);
      child.stdout?.off('data', read);
      child.stdout?.resume();
      settle();
    };
    const read = (data: Buffer) => {
      text += data.toString();
      const end = text.indexOf('\n');
      if (end >= 0) give(() => resolve(text.slice(0, end)));
    };
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      give(() =>
        reject(new Error(`${child.spawnargs.join(' ')} was not ready in ${START_SECONDS} s: ${errors.text}`)),
      );
    }, START_SECONDS * 1000);
    child.stdout?.on('data', read);
    child.once('error', (error) => give(() => reject(error)));
    child.once('close', (code) =>
      give(() =>
        reject(new Error(`${child.spawnargs.join(' ')} ended with ${String(code)}: ${errors.text.trim()}`)),
      ),
    );
  });
}

function controlOf(line: string): Control {
  const ready = JSON.parse(line) as Ready;
  if (ready.control?.protocol !== PROTOCOL) {
    throw new Error(
      `iii-skill-test ${version()} speaks control protocol ${PROTOCOL}, this iii-skill ` +
        `${String(ready.control?.protocol)}: install versions that belong together.`,
    );
  }
  return new Control(ready.control.url, ready.control.token);
}

/** The commands to try: III_SKILL, or `iii-skill` from the PATH and else the same version out of uv. */
function hostCommands(): string[][] {
  const given = process.env.III_SKILL;
  return given ? [words(given)] : [['iii-skill'], ['uvx', `iii-skill@${version()}`]];
}

/** The words of a command: a file is one word, else blanks part them; quotes hold a word together. */
function words(command: string): string[] {
  if (existsSync(command)) return [command];
  const found = command.match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g) ?? [];
  return found.map((word) => word.replace(/"([^"]*)"|'([^']*)'/g, '$1$2'));
}

function version(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
