/** What a plan would meet, for people: amounts, limits that would be hit, and the way out. */
import type { Preflight } from "../../workflows/index.ts";
import { bytes, duration, type Paint, table } from "../output.ts";

export function describePreflight(preflight: Preflight, paint: Paint): string[] {
  const { estimate, quotas, findings } = preflight;
  const parts: string[] = [];
  if (estimate.sendBytes > 0 || estimate.seconds > 0) {
    const { once, perMonth } = estimate.dollars;
    parts.push(
      [
        `${paint.bold("Estimate")}  up to ${bytes(estimate.sendBytes)} to send · about ${duration(estimate.seconds * 1000)} · $${once.toFixed(2)} once, $${perMonth.toFixed(2)} a month`,
        paint.dim(`  assuming ${estimate.assumes.join("; ")}`),
      ].join("\n"),
    );
  }
  const touched = quotas.filter((quota) => quota.adds > 0);
  const hit = touched.filter((quota) => quota.exceeded);
  if (hit.length > 0) {
    const rows = hit.map((quota) => [
      quota.target,
      quota.region ?? "",
      quota.subject,
      `${quota.used} + ${quota.adds} of ${quota.limit}`,
      quota.next ?? "",
    ]);
    parts.push(`${paint.bold("Limits")}\n${table(["target", "region", "limit", "used", "way out"], rows, paint)}`);
  } else if (touched.length > 0) {
    parts.push(paint.dim(`${touched.length} limits were looked at and leave room.`));
  }
  const shown = findings.filter(({ severity }) => severity !== "info");
  if (shown.length > 0) {
    parts.push(
      shown
        .map(({ severity, target, region, message, next }) => {
          const mark = severity === "error" ? paint.bad("✗") : paint.warn("!");
          return `${mark} ${target}${region === undefined ? "" : ` ${region}`}: ${message}${next === undefined ? "" : ` ${next}`}`;
        })
        .join("\n"),
    );
  }
  return parts;
}
