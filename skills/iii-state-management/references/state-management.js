/**
 * State management: a state worker for iii.
 *
 * Every function has two faces. Called directly, the payload is its input and the answer is the plain
 * result, or `{ error, code }`. Over HTTP the input is the body plus the path values, and the answer is
 * `{ status_code, headers, body }`. No value is read, changed and written back: every write is one `state::`
 * call that the host carries out in one step, so calls may run side by side.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as sdk from 'iii-sdk';

// The Logger moved: up to SDK 0.11 it is in the SDK itself, later in a package beside it.
const { Logger } = 'Logger' in sdk ? sdk : await import('@iii-dev/helpers/observability');

const SCOPE = 'products';
const TRANSCRIPTS = 'audio::transcripts';

const log = new Logger(undefined, 'state-management');

// What the handlers share: refusals, state calls, checks of the input.

/** The call is answered with an error: a status as HTTP has it, a code and details. */
class Refused extends Error {
  constructor(status, code, message, details = {}) {
    super(message);
    Object.assign(this, { status, code, details });
  }
}

/** The input breaks a rule; the message names the field. */
function invalid(field, rule) {
  return new Refused(400, 'INVALID_INPUT', `${field} ${rule}`, { field });
}

/** There is nothing under this key. */
function notFound(what, id) {
  return new Refused(404, 'NOT_FOUND', `${what} not found`, { id });
}

/** The `state::` functions of the host; whatever goes wrong there becomes a Refused. */
class State {
  constructor(iii) {
    this.iii = iii;
  }

  /** Call `state::<name>`. After a timeout a write may have happened, and the answer says so. */
  async call(name, payload) {
    try {
      return await this.iii.trigger({ function_id: `state::${name}`, payload });
    } catch (error) {
      const { code = 'UNKNOWN', message } = error;
      log.error('state call failed', { function: name, code, reason: message });
      if (code === 'TIMEOUT') {
        const retry_safe = ['get', 'list', 'delete'].includes(name);
        throw new Refused(504, code, `state::${name} timed out`, { retry_safe });
      }
      throw new Refused(code === 'VALUE_TOO_LARGE' ? 413 : 502, code, `state::${name} failed`);
    }
  }

  /** Apply `ops` in one step; gives `old_value` and `new_value`. */
  async update(scope, key, ops) {
    return await this.call('update', { scope, key, ops });
  }

  /** The product with this id; anything else in the store counts as missing. */
  async record(key) {
    const value = await this.call('get', { scope: SCOPE, key });
    if (!isRecord(value, key)) throw notFound('product', key);
    return value;
  }

  /**
   * Apply `ops` to an existing product and give its new value.
   *
   * An update creates a key that is missing, for instance one that was removed a moment ago. Whoever did
   * that takes it away again; ids are never used twice, so this cannot hit a live record.
   */
  async change(key, ops) {
    const result = await this.update(SCOPE, key, ops);
    const old = result.old_value;
    if (!isRecord(old, key)) {
      if (old === null || (isObject(old) && !('id' in old))) await this.call('delete', { scope: SCOPE, key });
      throw notFound('product', key);
    }
    refuseErrors(key, result);
    return result.new_value;
  }
}

/** A value that an op does not fit, such as text where a number belongs, is a damaged record. */
function refuseErrors(key, { errors }) {
  if (!errors?.length) return;
  log.error('update skipped ops', { key, errors });
  throw new Refused(500, 'CORRUPT_RECORD', 'the stored value does not fit the change', { id: key });
}

/** A JSON object. */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** A stored value counts only when it is an object that carries its own id. */
const isRecord = (value, key) => isObject(value) && value.id === key;

/** The time in UTC with milliseconds: as text it sorts in order of time. */
const now = () => new Date().toISOString();

/** 1 to 64 letters, digits, underscores and hyphens. */
function identifier(data, field) {
  const value = data[field];
  if (typeof value !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(value)) {
    throw invalid(field, "must be 1 to 64 letters, digits, '_' or '-'");
  }
  return value;
}

/** Text of 1 to 200 characters without blanks around it. */
function text(data, field) {
  const value = data[field];
  const trimmed = typeof value === 'string' ? value.trim() : '';
  const length = [...trimmed].length;
  if (length < 1 || length > 200) throw invalid(field, 'must be text of 1 to 200 characters');
  return trimmed;
}

/** A number from 0 with at most 2 decimals. */
function amount(data, field) {
  const value = data[field];
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
    throw invalid(field, 'must be a number of 0 or more');
  }
  if (!Number.isInteger(value) && !/^\d+\.\d{1,2}$/.test(String(value))) {
    throw invalid(field, 'must not have more than 2 decimals');
  }
  return value;
}

/** A whole number between `low` and `high`. */
function integer(data, field, low = Number.MIN_SAFE_INTEGER, high = Number.MAX_SAFE_INTEGER) {
  const value = data[field];
  if (!Number.isInteger(value) || value < low || value > high) {
    throw invalid(field, `must be a whole number from ${low} to ${high}`);
  }
  return value;
}

// The functions.

/** Store a new product. Its id is random: nobody else writes this key. */
async function createProduct(state, data) {
  const input = {
    stock: 0,
    ...data,
  };
  const record = {
    id: `prod-${randomUUID().replaceAll('-', '')}`,
    name: text(input, 'name'),
    price: amount(input, 'price'),
    category: text(input, 'category'),
    stock: integer(input, 'stock', 0),
    created_at: now(),
  };
  await state.call('set', { scope: SCOPE, key: record.id, value: record });
  return record;
}

/** One product. */
async function getProduct(state, data) {
  return await state.record(identifier(data, 'id'));
}

/** Every product, oldest first, or a page of `limit` behind `after`, the last `next`. */
async function listProducts(state, data) {
  const { limit, after } = pageOf(data);
  const values = await state.call('list', { scope: SCOPE });
  const records = values.filter((value) => isObject(value) && typeof value.id === 'string');
  const rest = records.filter((record) => placeOf(record) > after);
  rest.sort((one, other) => (placeOf(one) < placeOf(other) ? -1 : 1));
  const page = rest.slice(0, limit);
  const answer = { count: page.length, products: page };
  return page.length === rest.length ? answer : { ...answer, next: placeOf(rest[page.length - 1]) };
}

/** Where a record stands in the list; it keeps its place when others are removed. */
const placeOf = ({ created_at, id }) => `${created_at}~${id}`;

/** `limit` and `after`. A query has digits where a direct call has a number. */
function pageOf({ limit, after }) {
  const digits = typeof limit === 'string' && /^[0-9]{1,4}$/.test(limit);
  const number = digits ? Number(limit) : (limit ?? undefined);
  const fits = typeof number === 'number' && Number.isInteger(number) && number >= 1 && number <= 1000;
  if (number !== undefined && !fits) throw invalid('limit', 'must be a whole number from 1 to 1000');
  const place = after ?? undefined;
  const isPlace = typeof place === 'string' && place.includes('~');
  if (place !== undefined && !isPlace) throw invalid('after', 'must be the `next` of a page');
  return { limit: fits ? number : undefined, after: isPlace ? place : '' };
}

/** Remove a product. Of several calls at once the one that got the old value did it. */
async function removeProduct(state, data) {
  const key = identifier(data, 'id');
  const removed = await state.call('delete', { scope: SCOPE, key });
  if (!isRecord(removed, key)) throw notFound('product', key);
  return { deleted: key };
}

/** Set the price of a product. */
async function updatePrice(state, data) {
  const key = identifier(data, 'id');
  const value = amount(data, 'newPrice');
  const record = await state.change(key, [
    { type: 'set', path: 'price', value },
    { type: 'set', path: 'updated_at', value: now() },
  ]);
  return { id: key, price: record.price };
}

/**
 * Add to the stock of a product, or take from it what is there.
 *
 * The increment decides: calls that run side by side cannot take more than there is. One that went below
 * zero is taken back; the look beforehand only spares others from meeting such a moment.
 */
async function adjustStock(state, data) {
  const key = identifier(data, 'id');
  const adjustment = integer(data, 'adjustment');
  if (adjustment === 0) throw invalid('adjustment', 'must not be 0');
  if (adjustment < 0) refuseBelowZero((await state.record(key)).stock ?? 0, adjustment);
  const change = { type: 'increment', path: 'stock', by: adjustment };
  const stamp = { type: 'set', path: 'last_stock_change', value: now() };
  const { stock: value } = await state.change(key, [change, stamp]);
  if (adjustment < 0 && value < 0) {
    await state.change(key, [{ ...change, by: -adjustment }]);
    refuseBelowZero(value - adjustment, adjustment);
  }
  return {
    id: key,
    previousStock: value - adjustment,
    newStock: value,
  };
}

/** Refuse to take more than there is; a value that is no number is left to the increment. */
function refuseBelowZero(current, adjustment) {
  if (typeof current !== 'number' || current + adjustment >= 0) return;
  const details = { current, requested: adjustment };
  const message = 'the stock is not sufficient';
  throw new Refused(409, 'INSUFFICIENT_STOCK', message, details);
}

/** Add a piece of speech to the transcript of a session: one call, and every chunk keeps its place. */
async function recordChunk(state, data) {
  const session = identifier(data, 'sessionId');
  const author = text(data, 'author');
  const chunk = { at: Date.now(), author, text: text(data, 'chunk') };
  const result = await state.update(TRANSCRIPTS, session, [
    { type: 'merge', path: ['metadata'], value: { author } },
    { type: 'append', path: ['chunks'], value: chunk },
  ]);
  refuseErrors(session, result);
  return { sessionId: session, timestamp: chunk.at, count: result.new_value.chunks.length };
}

/** The host calls this after every change in SCOPE, with the old and the new value. */
function onChange(event) {
  log.info('changed', { event: event.event_type, key: event.key });
  return Promise.resolve({});
}

const FUNCTIONS = [
  { id: 'products::create', handler: createProduct, method: 'POST', path: '/products', status: 201 },
  { id: 'products::get', handler: getProduct, method: 'GET', path: '/products/:id', status: 200 },
  { id: 'products::list-all', handler: listProducts, method: 'GET', path: '/products', status: 200 },
  { id: 'products::remove', handler: removeProduct, method: 'DELETE', path: '/products/:id', status: 200 },
  {
    id: 'products::update-price',
    handler: updatePrice,
    method: 'PUT',
    path: '/products/:id/price',
    status: 200,
  },
  {
    id: 'products::adjust-stock',
    handler: adjustStock,
    method: 'POST',
    path: '/products/:id/stock',
    status: 200,
  },
  {
    id: 'transcripts::record-chunk',
    handler: recordChunk,
    method: 'POST',
    path: '/transcripts/:sessionId/chunks',
    status: 201,
  },
];

// The worker.

let running = 0;

/** What the SDK calls: the handler with its input checked and its outcome in the caller's form. */
function answering(state, entry) {
  return async (payload) => {
    const http = isObject(payload) && 'path_params' in payload && 'method' in payload;
    running += 1;
    try {
      const result = await entry.handler(state, http ? httpInput(payload) : directInput(payload));
      return http ? httpAnswer(entry, result) : result;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const { status, code, message, details } = error;
      if (http) return { status_code: status, body: { error: { code, message, ...details } } };
      return { error: message, code, ...details };
    } finally {
      running -= 1;
    }
  };
}

/** The payload of a direct call. */
function directInput(payload) {
  if (!isObject(payload)) throw invalid('payload', 'must be an object');
  return payload;
}

/**
 * Body and path values of a request, and the query of a GET; path values win.
 *
 * The host has decoded the query and leaves the percent signs of a path as they came.
 */
function httpInput(request) {
  const empty = ['GET', 'DELETE'].includes(request.method) ? {} : null;
  const body = request.body ?? empty;
  if (!isObject(body)) throw invalid('body', 'must be a JSON object');
  const query = request.method === 'GET' ? request.query_params : {};
  const values = Object.entries(request.path_params);
  const path = Object.fromEntries(values.map(([name, value]) => [name, decoded(name, value)]));
  return { ...query, ...body, ...path };
}

/** A path value with its percent signs resolved. */
function decoded(name, value) {
  try {
    return decodeURIComponent(value);
  } catch {
    throw invalid(name, 'must be percent-encoded UTF-8');
  }
}

/** The envelope that the host turns into a response; what was created gets its address. */
function httpAnswer({ status, path }, body) {
  const created = status === 201 && 'id' in body;
  return { status_code: status, ...(created && { headers: { location: `${path}/${body.id}` } }), body };
}

/** Publish what follows changes, then every function and its route. */
function register(iii) {
  const state = new State(iii);
  const triggers = [];
  const functions = [];
  const watch = (id, scope, handler) => {
    functions.push(iii.registerFunction(id, handler));
    triggers.push(iii.registerTrigger({ type: 'state', function_id: id, config: { scope } }));
  };
  watch('products::on-change', SCOPE, onChange);
  for (const entry of FUNCTIONS) {
    functions.push(iii.registerFunction(entry.id, answering(state, entry)));
    const config = { api_path: entry.path, http_method: entry.method };
    triggers.push(iii.registerTrigger({ type: 'http', function_id: entry.id, config }));
  }
  return { triggers, functions };
}

/** Take back what was published, let running calls end and their answers leave, then disconnect. */
async function finish(iii, { triggers, functions }) {
  for (const trigger of triggers) trigger.unregister();
  await roundTrip(iii);
  for (const published of functions) published.unregister();
  const deadline = Date.now() + 10_000;
  for (let quiet = 0; quiet < 3 && Date.now() < deadline; quiet = running > 0 ? 0 : quiet + 1) {
    await roundTrip(iii);
  }
  await iii.shutdown();
  process.exit(0);
}

/** Ask the host something: it keeps the order, so whatever was sent before has arrived. */
async function roundTrip(iii) {
  const payload = { scope: SCOPE, key: 'none' };
  await iii.trigger({ function_id: 'state::get', payload, timeoutMs: 1000 }).catch(() => null);
  await sleep(20);
}

process.env.OTEL_ENABLED ??= 'false'; // older SDKs send telemetry to a fixed address
const url = process.env.III_URL || process.env.III_ENGINE_URL || 'ws://127.0.0.1:49134';
const iii = sdk.registerWorker(url, { workerName: process.env.III_WORKER_NAME });
const published = register(iii);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => finish(iii, published));
log.info('ready', { functions: FUNCTIONS.map(({ id }) => id) });
