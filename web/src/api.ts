/** What the console's server says, as types, and how it is asked. Shapes follow src/durable/types.ts and src/catalog. */

export type RunState = "waiting" | "running" | "done" | "failed" | "cancelled";

export interface Trouble {
  code: string;
  message: string;
  subject?: string;
  tried?: string;
  next?: string;
  cloud?: string;
  operation?: string;
  region?: string;
  requestId?: string;
}

export interface Run {
  id: string;
  workflow: string;
  title: string;
  labels: Record<string, string>;
  parent?: string;
  root: string;
  queue: string;
  state: RunState;
  createdAt: number;
  startedAt?: number;
  endedAt?: number;
  executor?: string;
  error?: Trouble;
}

export interface Progress {
  doneBytes?: number;
  totalBytes?: number;
  sentBytes?: number;
  doneRegions?: number;
  totalRegions?: number;
}

export interface Step {
  run: string;
  key: string;
  name: string;
  state: "running" | "done" | "failed" | "abandoned";
  startedAt: number;
  endedAt?: number;
  error?: Trouble;
  progress?: Progress;
  attempts: { attempt: number; state: string; startedAt: number; endedAt?: number; error?: Trouble }[];
}

export interface LogLine {
  at: number;
  level: "debug" | "info" | "warn" | "error";
  message: string;
  fields?: Record<string, unknown>;
  run: string;
  step?: string;
  attempt?: number;
}

export interface Image {
  version: { composeId: string; arch: string; kind: string };
  target: string;
  cloud: string;
  region: string;
  id?: string;
  name: string;
  state: string;
  error?: Trouble;
  changedAt: string;
}

export interface Container {
  composeId: string;
  target: string;
  registry: string;
  repository: string;
  digest: string;
  tags: string[];
  architectures: string[];
  changedAt: string;
}

/** An event that arrived, and what rules did about it. */
export interface ArrivedEvent {
  id: string;
  source: string;
  topic: string;
  receivedAt: string;
  deliveries: number;
  dispatched: boolean;
  rules: {
    rule: string;
    generation: number;
    state: string;
    why?: string;
    runId?: string;
    /** Of that run. */
    run?: RunState;
    dueAt: string;
  }[];
}

export interface Pause {
  rule: string;
  mode: "hold" | "drop";
  reason: string;
  since: string;
}

/** What nobody could read, or an id that came back with another body. */
export interface Quarantined {
  id: string;
  reason: string;
  detail: string;
  topic: string;
  source: string;
  bytes: number;
  deliveries: number;
  lastAt: string;
}

export interface Message {
  id: string;
  topic: string;
  summary: string;
  state: string;
  /** Why it still waits, or what it was delivered with. */
  trouble?: string;
  body: unknown;
  createdAt: string;
}

export class ApiError extends Error {
  readonly trouble: Trouble;
  constructor(trouble: Trouble) {
    super(trouble.message);
    this.trouble = trouble;
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(path, signal ? { signal } : {});
  const body = (await answer.json().catch(() => ({}))) as { error?: Trouble };
  if (!answer.ok)
    throw new ApiError(body.error ?? { code: "unknown", message: `the server answered ${answer.status}` });
  return body as T;
}
