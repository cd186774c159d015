import type { OfferWhen } from "../compose/index.ts";
import type { ErrorLike } from "../model.ts";
import type { Prepared } from "./groups.ts";

/**
 * May a group be offered? `all`: every region of every target has the image. A quorum: every home region has, and at
 * least that share of all regions; the rest is caught up with later. Pure.
 */
export function meetsPolicy(
  policy: OfferWhen,
  prepared: readonly (Prepared | ErrorLike)[],
): { readonly met: true } | { readonly met: false; readonly error: ErrorLike } {
  const failed = prepared.find((outcome): outcome is ErrorLike => "code" in outcome);
  if (prepared.length === 0) return { met: false, error: { code: "invalid", message: "the group has no target" } };
  if (failed !== undefined) {
    const others = prepared.length > 1 ? ": the others of its group wait for it" : "";
    return { met: false, error: { ...failed, message: `${failed.message}${others}` } };
  }
  const ready = prepared as readonly Prepared[];
  const missing = ready.flatMap((outcome) => outcome.missing);
  if (missing.length === 0) return { met: true };
  const there = ready.reduce((sum, outcome) => sum + outcome.images.length, 0);
  const wanted = there + missing.length;
  const home = ready.every((outcome) => !outcome.missing.some(({ region }) => region === outcome.spec.homeRegion));
  if (policy !== "all" && home && there / wanted >= policy.quorum) return { met: true };
  const regions = missing.map(({ region }) => region).join(", ");
  const least = policy === "all" ? "all" : `${Math.ceil(policy.quorum * wanted)}`;
  const asked = home ? `${least} are asked for` : "the home region is not among them";
  return {
    met: false,
    error: {
      ...missing[0]!.error,
      message: `not offered: ${there} of ${wanted} regions are there and ${asked}; missing ${regions}: ${missing[0]!.error.message}`,
      next: adviceFor(missing[0]!.error),
    },
  };
}

/** What passes by itself is waited for; for the rest its own advice comes first. */
function adviceFor({ code, next }: ErrorLike): string {
  const passes = ["unavailable", "throttled", "unknown"].includes(code) || next === undefined;
  const first = passes ? "Nothing is public. When the regions are back," : `Nothing is public. ${next} Then`;
  return `${first} "slipway runs retry" finishes it.`;
}
