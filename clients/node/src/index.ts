/** A fresh iii engine for every test of a worker. */
export type { Call, CallFilter, Calls } from './calls.js';
export type { Clock } from './clock.js';
export { EngineError } from './control.js';
export { Engine, type EngineOptions, type Ready, startEngine } from './engine.js';
export type { EventFilter, Events, StateEvent } from './events.js';
export type { Fault, Faults, Often } from './faults.js';
export type { Http, Pending, Reply, RequestOptions } from './http.js';
export type { Json } from './json.js';
export { type Contents, Snapshot, type State } from './state.js';
export type { Register, RunningWorker, WorkerOptions } from './worker.js';
