/** Takes secrets out of what programs print and errors quote. */
import { type ErrorDetails, SlipwayError } from "../lib/errors.ts";

/**
 * Takes secrets out of text, in the shapes in which programs print them: as they are, inside JSON, in a URL, in base64.
 *
 * Not a proof against a program that wants to tell: one that prints a secret backwards is not caught.
 */
export interface Mask {
  /** The text with every secret replaced by `***`. */
  (text: string): string;
  /**
   * At most `limit` characters of the text (then `***` for a secret that begins before the limit and ends after it).
   * Right only if a secret beginning before the limit is whole in `text`: `longest` characters more than that are enough.
   */
  cut(text: string, limit: number): string;
  /** Length of the longest shape looked for, in UTF-16 units; 0 without secrets. */
  readonly longest: number;
}

/** What is shorter is a word that stands in any text: masking it would make logs unreadable and tell what it is. */
const SHORTEST = 4;

/** @param secrets those shorter than 4 characters are not masked; of one with several lines, each line is */
export function maskOf(secrets: readonly string[]): Mask {
  const shapes = [...new Set(secrets.flatMap(shapesOf))]
    .filter((shape) => shape.length >= SHORTEST)
    // A secret that holds another one is masked whole.
    .sort((a, b) => b.length - a.length);
  const pattern =
    shapes.length === 0 ? undefined : new RegExp(shapes.map((shape) => RegExp.escape(shape)).join("|"), "g");

  const mask = (text: string) => (pattern === undefined ? text : text.replace(pattern, "***"));
  function cut(text: string, limit: number): string {
    if (text.length <= limit) return mask(text);
    let end = limit;
    for (const { index, 0: found } of pattern === undefined ? [] : text.matchAll(pattern)) {
      if (index >= limit) break;
      if (index + found.length > limit) end = index + found.length;
    }
    return mask(text.slice(0, end));
  }
  return Object.assign(mask, { cut, longest: shapes[0]?.length ?? 0 });
}

function shapesOf(secret: string): string[] {
  // Lines are masked one by one, so a key of several lines has to be known by its lines.
  const lines = /[\r\n]/.test(secret) ? [secret, ...secret.split(/[\r\n]+/).map((line) => line.trim())] : [secret];
  return lines
    .filter((line) => line.length >= SHORTEST)
    .flatMap((line) => [line, ...inJson(line), ...inUrl(line), ...inBase64(line)]);
}

function inJson(text: string): string[] {
  const once = JSON.stringify(text).slice(1, -1);
  // Python writes JSON in ASCII, and some put JSON into JSON.
  const shapes = [once, inAscii(once)];
  return [...shapes, ...shapes.map((shape) => JSON.stringify(shape).slice(1, -1))];
}

function inAscii(text: string): string {
  return text.replace(/[^\0-~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function inUrl(text: string): string[] {
  if (!text.isWellFormed()) return [];
  const usual = encodeURIComponent(text);
  const strict = usual.replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  const shapes = [usual, strict];
  shapes.push(
    ...shapes.map((shape) => shape.replaceAll("%20", "+")),
    ...shapes.map((shape) => shape.replaceAll("%2F", "/")),
  );
  return [...shapes, ...shapes.map((shape) => shape.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()))];
}

/** By itself, and in the middle of something longer (as in `user:password`): there it begins at one of three places. */
function inBase64(text: string): string[] {
  return [0, 1, 2].flatMap((before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(text)]);
    const whole = bytes.toString("base64").replace(/=+$/, "");
    // The first and last characters hold bits of the neighbours.
    const sure = whole.slice(Math.ceil((before * 8) / 6), Math.floor((bytes.length * 8) / 6));
    return [sure, sure.replaceAll("+", "-").replaceAll("/", "_")];
  });
}

/** The same error without secrets, also in what it was caused by: a failed start quotes its arguments. */
export function maskedError(error: unknown, mask: Mask): unknown {
  if (mask.longest === 0 || !(error instanceof Error)) return error;
  const cause = error.cause === undefined ? undefined : new Error(mask(messageOf(error.cause)));
  if (!(error instanceof SlipwayError)) return new Error(mask(error.message), { cause });
  const masked = ({ subject, tried, next }: ErrorDetails) => ({
    subject: subject && mask(subject),
    tried: tried && mask(tried),
    next: next && mask(next),
  });
  return new SlipwayError(error.code, mask(error.message), { ...masked(error), cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
