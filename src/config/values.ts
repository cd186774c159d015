import { z } from "zod";
import { checkTemplate } from "../compose/index.ts";
import { hours, KiB, minutes, seconds } from "../lib/units.ts";
import type { Audience } from "../model.ts";

/** The kinds of value that stand in slipway.yaml. Each says in words what it wants: its text reaches the operator. */

/** Where a secret is, never the secret: a name in the environment, or a file. */
export type SecretRef = { readonly env: string } | { readonly file: string };

const secretRefs = [
  z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "is not the name of an environment variable") }),
  z.strictObject({ file: z.string().min(1) }),
] as const;

export const secret = z.union(secretRefs, {
  error: "a literal secret is not accepted: write {env: NAME} or {file: PATH}",
});

/** Not secret, but often kept beside the secret. */
export const valueOrRef = z.union([z.string().min(1), ...secretRefs], {
  error: "expected text, {env: NAME} or {file: PATH}",
});

const UNITS = { s: seconds(1), m: minutes(1), h: hours(1), d: hours(24) } as const;

/** Milliseconds, written `90s`, `30m`, `26h`, `7d`. */
export const duration = z
  .string()
  .regex(/^\d{1,6}(s|m|h|d)$/, 'expected a duration such as "90s", "30m", "26h" or "7d"')
  .transform((text) => Number(text.slice(0, -1)) * UNITS[text.at(-1) as keyof typeof UNITS]);

const SIZES = ["KiB", "MiB", "GiB", "TiB"];

/** Bytes, written `64 GiB` or as a number. */
export const byteSize = z.union(
  [
    z.int().min(1),
    z
      .string()
      .regex(/^\d{1,9} ?(KiB|MiB|GiB|TiB)$/)
      .transform((text) => Number.parseInt(text, 10) * KiB ** (SIZES.indexOf(text.slice(-3)) + 1)),
  ],
  { error: 'expected a size such as "64 GiB"' },
);

/** A name of ours: of a target, a system, a rule. It becomes a part of queue names, tags and file names. */
export const ownName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, "a name is up to 40 lower-case letters, digits and dashes");

/** Text that looks like a number loses zeros in YAML: 013116697141 would be read as 13116697141. */
export const quotedDigits = (pattern: RegExp, what: string) =>
  z.string({ error: `expected ${what}, in quotes` }).regex(pattern, `expected ${what}, in quotes`);

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]", "::1"]);

export function isLoopback(host: string): boolean {
  return LOOPBACK.has(host) || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** Another address for a vendor's API. Plain http only to this machine: credentials would travel in the clear. */
export const endpoint = z.string().superRefine((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) context.addIssue("expected an https URL");
  else if (url.username || url.password)
    context.addIssue("a literal secret is not accepted: put no credentials into a URL");
  else if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    context.addIssue("expected an https URL; plain http is for this machine only");
  }
});

/** A URL of a server whose credentials are given beside it. */
export const urlWithoutSecret = (schemes: readonly string[]) =>
  z.string().superRefine((text, context) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (!url || !schemes.includes(url.protocol))
      context.addIssue(`expected a URL that begins with ${schemes.map((scheme) => `${scheme}//`).join(" or ")}`);
    else if (url.password) {
      context.addIssue(
        "a literal secret is not accepted: take the password out of the URL, or give the whole as {env: NAME}",
      );
    }
  });

/** A name template; an unknown placeholder is an error that names the nearest. */
export const template = (allowed?: readonly string[]) =>
  z
    .string()
    .min(1)
    .max(300)
    .superRefine((text, context) => {
      const wrong = checkTemplate(text, allowed ? [...allowed] : undefined);
      if (wrong) context.addIssue(wrong);
    });

export const isoDate = z
  .string()
  .refine(
    (text) => /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text)),
    "expected a date such as 2026-12-02",
  );

export const isoMoment = z
  .string()
  .refine(
    (text) => /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?Z$/.test(text) && !Number.isNaN(Date.parse(text)),
    "expected a moment in UTC such as 2026-04-20T12:00Z",
  );

/** Who is let in when an image is offered. */
export const audience = z
  .union(
    [
      z.enum(["public", "nobody"]),
      z.strictObject({ accounts: z.array(quotedDigits(/^\S{1,100}$/, "an account")).min(1) }),
    ],
    { error: "expected public, nobody or {accounts: […]}" },
  )
  .transform((given): Audience => {
    return typeof given === "string" ? { to: given } : { to: "accounts", accounts: given.accounts };
  });

const ORGANIZATION = /^arn:aws(-cn|-us-gov)?:organizations::\d{12}:organization\/o-[a-z0-9]{10,32}$/;
const UNIT = /^arn:aws(-cn|-us-gov)?:organizations::\d{12}:ou\/o-[a-z0-9]{10,32}\/ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}$/;

/** AWS knows organizations too. */
export const awsAudience = z
  .union(
    [
      z.enum(["public", "nobody"]),
      z
        .strictObject({
          accounts: z.array(quotedDigits(/^\d{12}$/, "an account of 12 digits")).min(1),
          organizations: z
            .array(
              z
                .string()
                .refine(
                  (arn) => ORGANIZATION.test(arn) || UNIT.test(arn),
                  "is not the ARN of an organization or of one of its units",
                ),
            )
            .min(1),
        })
        .partial()
        .refine((given) => Object.keys(given).length > 0, "expected accounts, organizations or both"),
    ],
    { error: "expected public, nobody, {accounts: […]} or {organizations: […]}" },
  )
  .transform((given): Audience => {
    if (typeof given === "string") return { to: given };
    const { accounts = [], organizations } = given;
    return { to: "accounts", accounts, ...(organizations === undefined ? {} : { organizations }) };
  });

export const region = z.string().regex(/^[A-Za-z0-9-]{2,40}$/, "is not the name of a region");

export function noRepeats(names: readonly string[], context: z.RefinementCtx, what: string): void {
  for (const [at, name] of names.entries()) {
    if (names.indexOf(name) < at)
      context.addIssue({ code: "custom", path: [at], message: `${what} ${name} stands here twice` });
  }
}
