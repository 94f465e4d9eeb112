// The host of the engines is killed: whoever waits is told, and the next engine has a new one.
import { readFileSync } from 'node:fs';
import { startEngine } from 'iii-skill-test';

const engine = await startEngine();
const waiting = engine.events.expect({ scope: 'never', within: 60 }).catch((error) => error);
while (!(await engine.functions()));
const [host] = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').split(' ');
process.kill(Number(host), 'SIGKILL');
const { code, message } = await waiting;
await engine.close();
const next = await startEngine();
console.log(JSON.stringify([code, message, await next.state.scopes()]));
await next.close();
