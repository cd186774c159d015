/**
 * Shared Key authorization: an HMAC over the request with the account's key. Kept so that one script can be run
 * unchanged against the simulator and against emulators that know nothing else.
 * @see https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { type Exchange, header } from "./exchange.ts";

const SIGNED_HEADERS = [
  "content-encoding",
  "content-language",
  "content-length",
  "content-md5",
  "content-type",
  "date",
  "if-modified-since",
  "if-match",
  "if-none-match",
  "if-unmodified-since",
  "range",
];

/** @param key the account's key, base64 */
export function sharedKeyIsRight(exchange: Exchange, account: string, key: string): boolean {
  const given = /^SharedKey ([^:]+):(.+)$/.exec(header(exchange, "authorization") ?? "");
  if (given?.[1] !== account) return false;
  const right = createHmac("sha256", Buffer.from(key, "base64")).update(stringToSign(exchange, account)).digest();
  const signature = Buffer.from(given[2] ?? "", "base64");
  return signature.length === right.length && timingSafeEqual(signature, right);
}

function stringToSign(exchange: Exchange, account: string): string {
  const standard = SIGNED_HEADERS.map((name) => {
    const value = header(exchange, name) ?? "";
    if (name === "content-length" && value === "0") return "";
    return name === "date" && header(exchange, "x-ms-date") !== undefined ? "" : value;
  });
  const own = Object.keys(exchange.headers)
    .filter((name) => name.startsWith("x-ms-"))
    .sort()
    .map((name) => `${name}:${(header(exchange, name) ?? "").replace(/\s+/g, " ").trim()}`);
  const names = [...new Set([...exchange.query.keys()].map((name) => name.toLowerCase()))].sort();
  const query = names.map((name) => {
    const values = [...exchange.query].filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
    return `\n${name}:${values.sort().join(",")}`;
  });
  const resource = `/${account}${exchange.rawPath}${query.join("")}`;
  return [exchange.method, ...standard, ...own, resource].join("\n");
}
