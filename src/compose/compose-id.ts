import { SlipwayError } from "../lib/errors.ts";

export type ComposeType = "test" | "ci" | "nightly" | "production" | "development";

/** A compose id taken apart. */
export interface ComposeId {
  readonly short: string;
  readonly version: string;
  /** ga where the id names none. */
  readonly releaseType: string;
  /** YYYYMMDD. */
  readonly date: string;
  readonly type: ComposeType;
  readonly respin: number;
}

/** Ids become file names, tags and queue keys, so nothing else is let in. */
const SAFE_ID = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;

const TYPE_OF_SUFFIX: Readonly<Record<string, ComposeType>> = {
  n: "nightly",
  nightly: "nightly",
  t: "test",
  test: "test",
  ci: "ci",
  d: "development",
};

/** productmd's release types, longest first, so that `updates-testing` is not read as a version and `testing`. */
const RELEASE_TYPES = ["updates-testing", "updates", "fast", "eus", "aus", "els", "tus", "e4s", "ga"];

/**
 * Reads `<short>-<version>[-<release type>]-<YYYYMMDD>[.<type>][.<respin>]` from the right, because `short` may hold
 * dashes. A layered product's base (`…-<short>-<version>-…`) stays a part of `short`: composeinfo says it better.
 * @throws SlipwayError `invalid`
 */
export function parseComposeId(id: string): ComposeId {
  if (!SAFE_ID.test(id)) throw notAnId(id, "has characters or a length no compose id has");
  const tail = /^(.+)-(\d{8})(?:\.([a-z]+))?(?:\.(\d{1,6}))?$/.exec(id);
  if (!tail) throw notAnId(id, "does not end in -YYYYMMDD[.type][.respin]");
  const [, head = "", date = "", suffix, respin] = tail;
  const type = suffix === undefined ? "production" : TYPE_OF_SUFFIX[suffix];
  if (type === undefined) throw notAnId(id, `has the unknown type ".${suffix}"`);
  if (!isDate(date)) throw notAnId(id, `has the impossible date ${date}`);

  const releaseType = RELEASE_TYPES.find((candidate) => head.endsWith(`-${candidate}`));
  const named = releaseType === undefined ? head : head.slice(0, -releaseType.length - 1);
  const dash = named.lastIndexOf("-");
  if (dash < 1 || dash === named.length - 1) throw notAnId(id, "names no version");
  return {
    short: named.slice(0, dash),
    version: named.slice(dash + 1),
    releaseType: releaseType ?? "ga",
    date,
    type,
    respin: Number(respin ?? 0),
  };
}

/** True for YYYYMMDD of a day that exists. 19700101 does: it marks a stable release's fake id. */
export function isDate(text: string): boolean {
  if (!/^\d{8}$/.test(text)) return false;
  const iso = `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}`;
  const time = Date.parse(`${iso}T00:00:00Z`);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(iso);
}

function notAnId(id: string, why: string): SlipwayError {
  return new SlipwayError("invalid", `"${id.slice(0, 140)}" is not a compose id: it ${why}`, {
    subject: "compose id",
    next: "An id looks like Fedora-43-20251021.0 or Fedora-Rawhide-20230502.n.0.",
  });
}
