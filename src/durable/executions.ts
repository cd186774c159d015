import { SlipwayError } from "../lib/errors.ts";

// How long a step may take to tidy up after its signal was aborted, before it is left to itself.
export const GRACE_MS = 5000;

/** One telling of a run in this process. After a takeover there may be two for a moment: the old one is being stopped. */
export interface Execution {
  readonly run: string;
  readonly root: string;
  readonly signal: AbortSignal;
  /** Resolves when it has ended, however. */
  readonly ended: Promise<void>;
  stop(reason: SlipwayError): void;
  end(): void;
}

/** What runs in this process right now. */
export class Executions {
  readonly #all = new Set<Execution>();

  begin(run: string, root: string): Execution {
    const controller = new AbortController();
    const { promise, resolve } = Promise.withResolvers<void>();
    const execution: Execution = {
      run,
      root,
      signal: controller.signal,
      ended: promise,
      stop: (reason) => controller.abort(reason),
      end: () => {
        this.#all.delete(execution);
        resolve();
      },
    };
    this.#all.add(execution);
    return execution;
  }

  /** Runs in progress, for asking which of them were cancelled. */
  running(root?: string): string[] {
    const found = [...this.#all].filter((execution) => !execution.signal.aborted);
    return found.filter((execution) => !root || execution.root === root).map((execution) => execution.run);
  }

  stop(run: string, reason: SlipwayError): void {
    for (const execution of this.#all) if (execution.run === run) execution.stop(reason);
  }

  /** Aborts everything and waits until it has ended, or for the grace and a little. */
  async stopAll(why: string): Promise<void> {
    const all = [...this.#all];
    for (const execution of all) execution.stop(new SlipwayError("cancelled", why, { subject: execution.run }));
    await this.#settled(all, GRACE_MS + 500);
  }

  /** Waits until nothing runs, at most so long. */
  async drained(timeoutMs: number): Promise<void> {
    await this.#settled([...this.#all], timeoutMs);
  }

  async #settled(executions: readonly Execution[], timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([Promise.all(executions.map((execution) => execution.ended)), late]);
    clearTimeout(timer);
  }
}
