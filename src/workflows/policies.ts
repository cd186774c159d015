import type { RetryPolicy } from "../durable/index.ts";
import { seconds } from "../lib/units.ts";

/**
 * How steps that talk to a cloud are tried: at once, then after 1, 3, 9 and 27 s. What is down for longer is a target
 * that failed, the rest goes on, and `slipway runs retry` finishes it: waiting for hours inside a step would only hide it.
 */
export const cloudRetry: RetryPolicy = { attempts: 5, backoffMs: seconds(1), factor: 3, maxMs: seconds(60) };

/** Our own database: a short hiccup or a real outage, which ends the lease anyway. */
export const databaseRetry: RetryPolicy = { attempts: 4, backoffMs: seconds(0.5), factor: 2, maxMs: seconds(5) };
