/**
 * When AWS shall call an image deprecated: at its end of life, as far as AWS takes the date.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deprecate.html
 */
import type { Image } from "@aws-sdk/client-ec2";
import { minutes } from "../../lib/units.ts";

const DAY_MS = 86_400_000;
/** From creation, by who may start it. A day less than AWS's years: clocks differ, and so do years. */
const LIFE_MS = { public: (2 * 365 - 1) * DAY_MS, others: (10 * 365 - 1) * DAY_MS };
/** AWS takes no date in the past. */
const MARGIN_MS = minutes(10);

/**
 * Whole minutes, as AWS rounds.
 * @param end ISO date
 * @returns undefined if it has passed, or would be later than AWS takes and that has passed: left to `setState` then
 */
export function deprecationTime(
  end: string,
  image: Pick<Image, "CreationDate">,
  isPublic: boolean,
  now = Date.now(),
): Date | undefined {
  const createdAt = Date.parse(image.CreationDate ?? "") || now;
  const at = Math.min(Date.parse(end), createdAt + (isPublic ? LIFE_MS.public : LIFE_MS.others));
  if (!(at > now + MARGIN_MS)) return undefined;
  return new Date(Math.floor(at / minutes(1)) * minutes(1));
}
